// Calls pb.UserStatus with the gRPC of Node.js, from the published contract.
//
//     node call.js ADDRESS [KEY]
//
// reads calls, one a line: {"method":"Online","request":{"UserID":"a","DeviceID":"b","ServerAddr":"c"}}, and prints an answer
// for each: {"response":{…}}, or {"error":"UNAVAILABLE"}.
import process from 'node:process';
import { createInterface } from 'node:readline';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';

const [address, key] = process.argv.slice(2);
const definition = loader.loadSync(new URL('published.proto', import.meta.url).pathname, { keepCase: true, defaults: true });
const { UserStatus } = grpc.loadPackageDefinition(definition).pb;
const client = new UserStatus(address, grpc.credentials.createInsecure());

for await (const line of createInterface({ input: process.stdin })) {
  const { method, request } = JSON.parse(line);
  const metadata = new grpc.Metadata();
  if (key) metadata.set('authorization', `Bearer ${key}`);
  const answer = await new Promise((resolve) => {
    client[method](request, metadata, { deadline: Date.now() + 10_000 }, (error, response) =>
      resolve(error ? { error: grpc.status[error.code] } : { response }));
  });
  console.log(JSON.stringify(answer));
}
client.close();
