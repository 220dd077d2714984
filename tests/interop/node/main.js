'use strict';

// Runs cases with ali-ons against a server and prints one line for each.
// usage: main.js list | run NAMESRV BROKER CASE... | consume NAMESRV GROUP TOPIC broadcast|cluster (a member in its own process)

const { fork } = require('child_process');
const { connect } = require('net');
const { Consumer, Message, Producer } = require('ali-ons');

const PATIENCE_MS = 30000;
const CASE_MS = 90000;
const quiet = { debug() {}, info() {}, warn() {}, error: console.error };
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
let count = 0;

function check(isTrue, what) {
  if (!isTrue) throw new Error(what);
}

function equal(expected, actual, what) {
  check(JSON.stringify(expected) === JSON.stringify(actual), `${what}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
}

async function until(isTrue, what) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!isTrue()) {
    check(Date.now() < deadline, typeof what === 'function' ? what() : what);
    await sleep(20);
  }
}

// The client speaks to a cloud service by default: the name server is given, the keys are not looked at.
function options(namesrv, more) {
  return Object.assign({
    nameSrv: namesrv, accessKeyId: 'k', accessKeySecret: 's', logger: quiet, httpclient: {},
    rebalanceInterval: 500, pollNameServerInteval: 500, pullTimeDelayMillsWhenException: 500,
  }, more);
}

// What every case needs: names of its own, clients that are closed at its end.
class Kit {
  constructor(name, namesrv, broker) {
    Object.assign(this, { name, namesrv, broker, open: [] });
  }

  async close() {
    for (const close of this.open.reverse()) await close();
  }

  unique(what) {
    return `${this.name}-${what}-${++count}`;
  }

  async producer() {
    const producer = new Producer(options(this.namesrv, { producerGroup: this.unique('producer') }));
    producer.on('error', err => console.error(err));
    this.open.push(() => producer.close());
    await producer.ready();
    return producer;
  }

  // The client creates no topics, neither by asking nor by sending: one request of its own does.
  createTopic(queues) {
    const topic = this.unique('topic');
    const header = Buffer.from(JSON.stringify({
      code: 17, opaque: 1, flag: 0, version: 121, language: 'JAVA',
      extFields: { topic, defaultTopic: 'TBW102', readQueueNums: queues, writeQueueNums: queues, perm: 6 },
    }));
    const lengths = Buffer.alloc(8);
    lengths.writeUInt32BE(4 + header.length, 0);
    lengths.writeUInt32BE(header.length, 4);
    const [ host, port ] = this.broker.split(':');
    return new Promise((resolve, reject) => {
      const socket = connect(port, host, () => socket.write(Buffer.concat([ lengths, header ])));
      socket.once('error', reject);
      socket.once('data', answer => {
        socket.destroy();
        return answer.includes('"code":0,') ? resolve(topic) : reject(new Error(`topic not created: ${answer}`));
      });
    });
  }

  async send(producer, topic, body, tag) {
    const result = await producer.send(new Message(topic, tag || '', body));
    equal('SEND_OK', result.sendStatus, 'status of the send');
    return result;
  }

  // Starts a consumer; handler gets the messages and says what became of them.
  consume(group, topic, expression, handler, more) {
    const consumer = new Consumer(options(this.namesrv, Object.assign({
      consumerGroup: group, consumeFromWhere: 'CONSUME_FROM_FIRST_OFFSET',
    }, more)));
    consumer.on('error', err => console.error(err));
    consumer.subscribe(topic, expression, handler);
    this.open.push(() => consumer.close());
    return consumer;
  }

  // Messages of a topic as they come.
  collect(topic, expression, group) {
    const inbox = [];
    this.consume(group || this.unique('group'), topic, expression || '*', async m => { inbox.push(m); });
    return inbox;
  }

  // A member of a group in a process of its own (in one process a group has one member); returns the bodies it gets.
  member(group, topic, model) {
    const bodies = [];
    const child = fork(__filename, [ 'consume', this.namesrv, group, topic, model ]);
    child.on('message', body => bodies.push(body));
    const gone = new Promise(resolve => child.once('exit', resolve));
    bodies.end = async signal => { // SIGTERM: it says goodbye; SIGKILL: its connection breaks
      child.kill(signal);
      await gone;
    };
    this.open.push(() => bodies.end('SIGKILL'));
    return bodies;
  }
}

const bodies = inbox => inbox.map(m => m.body.toString()).sort();
const numbered = n => Array.from({ length: n }, (_, i) => `m${i}`).sort();

async function expectBodies(inbox, expected) {
  await until(() => inbox.length >= expected.length, () => `expected ${expected}, got ${bodies(inbox)}`);
  await sleep(200);
  equal(expected, bodies(inbox), 'messages received');
}

// Two members share the queues; one goes, and what comes afterwards goes to the other.
async function memberGoes(kit, signal) {
  const topic = await kit.createTopic(4);
  const group = kit.unique('group');
  const producer = await kit.producer();
  const stays = kit.member(group, topic, 'cluster');
  const goes = kit.member(group, topic, 'cluster');
  const deadline = Date.now() + PATIENCE_MS;
  for (let i = 0; stays.length === 0 || goes.length === 0; i++) {
    check(Date.now() < deadline, 'the queues are not shared');
    await kit.send(producer, topic, `w${i}`);
    await sleep(50);
  }
  await goes.end(signal);
  for (let i = 0; i < 20; i++) await kit.send(producer, topic, `m${i}`);
  const after = () => [ ...new Set(stays.filter(b => b.startsWith('m'))) ].sort();
  await until(() => after().length === 20, () => `got ${after()}`);
}

const cases = {
  async normal(kit) {
    const topic = await kit.createTopic(4);
    const producer = await kit.producer();
    const message = new Message(topic, 'TagA', 'héllo 订单');
    message.keys = [ 'key1', 'key2' ];
    message.properties.colour = 'dünkel';
    const result = await producer.send(message);
    equal('SEND_OK', result.sendStatus, 'status');
    equal(32, result.msgId.length, 'length of the message id');
    const inbox = kit.collect(topic);
    await until(() => inbox.length === 1, 'no message');
    const got = inbox[0];
    equal('héllo 订单', got.body.toString(), 'body');
    equal('TagA', got.tags, 'tags');
    equal('key1 key2', got.keys, 'keys');
    equal('dünkel', got.properties.colour, 'user property');
    equal(Number(result.messageQueue.queueId), got.queueId, 'queue');
    equal(topic, got.topic, 'topic');
  },

  async 'compressed-zlib'(kit) {
    const topic = await kit.createTopic(4);
    const body = 'x'.repeat(100000);
    await kit.send(await kit.producer(), topic, body);
    const inbox = kit.collect(topic);
    await until(() => inbox.length === 1, 'no message');
    check(inbox[0].body.toString() === body, 'the body is another');
  },

  async 'tag-filter'(kit) {
    const topic = await kit.createTopic(4);
    const producer = await kit.producer();
    for (let i = 0; i < 40; i++) await kit.send(producer, topic, 'ABCD'[i % 4], 'Tag' + 'ABCD'[i % 4]);
    const inbox = kit.collect(topic, 'TagA || TagC');
    await expectBodies(inbox, [ ...Array(10).fill('A'), ...Array(10).fill('C') ]);
  },

  async retry(kit) {
    const topic = await kit.createTopic(4);
    await kit.send(await kit.producer(), topic, 'again');
    const inbox = [];
    kit.consume(kit.unique('group'), topic, '*', async m => {
      inbox.push({ body: m.body.toString(), times: m.reconsumeTimes, topic: m.topic });
      return m.reconsumeTimes < 1 ? Consumer.ACTION_RETRY : undefined;
    });
    await until(() => inbox.length === 2, 'no second time');
    equal([ 0, 1 ].map(times => ({ body: 'again', times, topic })), inbox, 'deliveries');
  },

  async 'long-polling'(kit) {
    const topic = await kit.createTopic(4);
    const producer = await kit.producer();
    await kit.send(producer, topic, 'first');
    const inbox = kit.collect(topic);
    await until(() => inbox.length === 1, 'no message');
    await sleep(1000);
    for (let i = 0; i < 5; i++) {
      const sent = Date.now();
      await kit.send(producer, topic, `m${i}`);
      await until(() => inbox.length === i + 2, 'no message');
      check(Date.now() - sent < 1000, `a message took ${Date.now() - sent} ms`);
    }
  },

  async 'offsets-are-kept'(kit) {
    const topic = await kit.createTopic(4);
    const group = kit.unique('group');
    const producer = await kit.producer();
    for (let i = 0; i < 10; i++) await kit.send(producer, topic, `m${i}`);
    const inbox = [];
    const first = kit.consume(group, topic, '*', async m => { inbox.push(m); });
    await expectBodies(inbox, numbered(10));
    await first.close();
    await kit.send(producer, topic, 'later');
    await expectBodies(kit.collect(topic, '*', group), [ 'later' ]);
  },

  async clustering(kit) {
    const topic = await kit.createTopic(4);
    const group = kit.unique('group');
    const producer = await kit.producer();
    await kit.send(producer, topic, 'first');
    const one = kit.member(group, topic, 'cluster');
    const two = kit.member(group, topic, 'cluster');
    const deadline = Date.now() + PATIENCE_MS;
    for (let i = 0; one.length === 0 || two.length === 0; i++) {
      check(Date.now() < deadline, 'the queues are not shared');
      await kit.send(producer, topic, `w${i}`);
      await sleep(50);
    }
    await sleep(500);
    const before = one.length + two.length;
    for (let i = 0; i < 40; i++) await kit.send(producer, topic, `m${i}`);
    await until(() => one.length + two.length >= before + 40, () => `got ${one.length} and ${two.length}`);
    equal(numbered(40), [ ...one, ...two ].filter(b => b.startsWith('m')).sort(), 'messages');
  },

  rebalance: kit => memberGoes(kit, 'SIGTERM'),
  'rebalance-after-kill': kit => memberGoes(kit, 'SIGKILL'),

  async broadcast(kit) {
    const topic = await kit.createTopic(4);
    const group = kit.unique('group');
    const producer = await kit.producer();
    await kit.send(producer, topic, 'm0');
    const members = [ kit.member(group, topic, 'broadcast'), kit.member(group, topic, 'broadcast') ];
    for (let i = 1; i < 10; i++) await kit.send(producer, topic, `m${i}`);
    for (const got of members) {
      await until(() => got.length >= 10, () => `got ${got}`);
      equal(numbered(10), [ ...got ].sort(), 'messages of a member');
    }
  },
};

async function runCase(name, namesrv, broker) {
  const kit = new Kit(name, namesrv, broker);
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not finished after ${CASE_MS / 1000} seconds`)), CASE_MS);
  });
  try {
    await Promise.race([ cases[name](kit), limit ]);
    console.log(`ok ${name}`);
  } catch (e) {
    console.error(e);
    console.log(`FAIL ${name}: ${String(e.message).replace(/\s+/g, ' ')}`);
  } finally {
    clearTimeout(timer);
    await Promise.race([ kit.close().catch(console.error), sleep(5000) ]);
  }
}

async function main([ what, namesrv, ...rest ]) {
  if (what === 'list') {
    console.log(Object.keys(cases).join('\n'));
  } else if (what === 'consume') {
    const [ group, topic, model ] = rest;
    const consumer = new Kit('member', namesrv, '').consume(group, topic, '*', async m => process.send(m.body.toString()),
      model === 'broadcast' ? { isBroadcast: true, instanceName: String(process.pid) } : {});
    process.once('SIGTERM', () => consumer.close().finally(() => process.exit(0)));
    return; // until it is ended
  } else {
    for (const name of rest.slice(1)) await runCase(name, namesrv, rest[0]);
  }
  process.exit(0);
}

main(process.argv.slice(2));
