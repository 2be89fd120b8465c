// Asks who is online with LeanCloud's SDK, unmodified.
//
//     node ask.js SERVER_URL APP_ID APP_KEY
//
// reads questions, one a line: {"by":"run" or "rpc","peerIds":["a","b"],"master":true}, and prints an answer for each:
// {"result":["1",null]}, or {"error":{"code":503,"message":"…"}} as the SDK rejects.
import process from 'node:process';
import { createInterface } from 'node:readline';
import AV from 'leancloud-storage';

const [serverURL, appId, appKey] = process.argv.slice(2);
AV.init({ appId, appKey, masterKey: appKey, serverURL });

for await (const line of createInterface({ input: process.stdin })) {
  const { by, peerIds, master = false } = JSON.parse(line);
  let answer;
  try {
    answer = { result: await AV.Cloud[by]('getOnOffStatus', { peerIds }, { useMasterKey: master }) };
  } catch (error) {
    answer = { error: { code: error.code, message: error.message } };
  }
  console.log(JSON.stringify(answer));
}
