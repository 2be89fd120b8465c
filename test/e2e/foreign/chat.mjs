// Two users on the two gateways whose addresses are given, with published frames byte for byte. Prints every frame that
// goes in (>) and comes out (<); exits with 1 when an answer is not the documented one.
import assert from 'node:assert/strict'
import WebSocket from 'ws'

// Client is one connection: send writes a frame, next resolves with the next one that comes.
class Client {
  constructor(name, address) {
    this.name = name
    this.socket = new WebSocket(`ws://${address}/ws`)
    this.frames = []
    this.waiting = []
    this.open = new Promise((resolve, reject) => {
      this.socket.once('open', resolve)
      this.socket.once('error', reject)
    })
    this.closed = new Promise((resolve) => this.socket.once('close', resolve))
    this.socket.on('message', (data) => {
      console.log(`${name} < ${data}`)
      const waiter = this.waiting.shift()
      if (waiter) waiter(JSON.parse(data))
      else this.frames.push(JSON.parse(data))
    })
  }

  send(text) {
    console.log(`${this.name} > ${text}`)
    this.socket.send(text)
  }

  next() {
    if (this.frames.length > 0) return Promise.resolve(this.frames.shift())
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${this.name}: no frame within 10 s`)), 10_000)
      this.waiting.push((frame) => {
        clearTimeout(timer)
        resolve(frame)
      })
    })
  }
}

const [one, two] = process.argv.slice(2, 4).map((address, i) => new Client(String(i + 1), address))
await Promise.all([one.open, two.open])

two.send('{"token":"2","type":"10"}')
const login = await two.next()
assert.equal(login.type, '11')
assert.equal(login.code, 200)
assert.equal(login.userId, '2')
one.send('{"token":"1","type":"10"}')
assert.equal((await one.next()).code, 200)

two.send('{"type":"40","fromId":"2"}')
assert.equal((await two.next()).type, '41')

one.send('{"type":"80","fromId":"1","toId":"2","content":{"contentType":1,"body":"测试消息"}}')
const answer = await one.next()
assert.equal(answer.type, '81')
assert.equal(answer.code, 200)
const chat = await two.next()
assert.equal(chat.type, '80')
assert.equal(chat.fromId, '1')
assert.equal(chat.msgId, answer.msgId)
assert.deepEqual(chat.content, { contentType: 1, body: '测试消息' })
two.send(`{"type":"90","msgId":"${chat.msgId}"}`)
const ack = await two.next()
assert.equal(ack.type, '91')
assert.equal(ack.msgId, chat.msgId)

one.send('{"type":"77"}')
const unknown = await one.next()
assert.equal(unknown.type, '0')
assert.equal(unknown.code, 404)

one.send('{"type":"12"}')
assert.equal(await one.closed, 1000)
two.socket.close()
await two.closed
