package gateway

// ServerEnv and ServeProcess are for TestMain.
const ServerEnv = serverEnv

// ServeProcess is the server process of the memory test.
var ServeProcess = serveProcess
