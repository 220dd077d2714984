'use strict';

// Runs cases with ali-ons against a server and prints one line for each.
// usage: main.js list | run NAMESRV BROKER CASE... | consume NAMESRV GROUP TOPIC broadcast|cluster (a member in its own process)

const { fork } = require('child_process');
const { createHash, createHmac } = require('crypto');
const { connect } = require('net');
const { Consumer, Message, Producer } = require('ali-ons');

const PATIENCE_MS = 30000;
const CASE_MS = 180000;
const quiet = { debug() {}, info() {}, warn() {}, error: console.error };
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
let count = 0;

function check(isTrue, what) {
  if (!isTrue) throw new Error(typeof what === 'function' ? what() : what);
}

function equal(expected, actual, what) {
  check(JSON.stringify(expected) === JSON.stringify(actual), `${what}: expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
}

async function until(isTrue, what) {
  const deadline = Date.now() + PATIENCE_MS;
  while (!isTrue()) {
    check(Date.now() < deadline, what);
    await sleep(20);
  }
}

// The server says no to what was promised, with this code if one is given.
async function refused(promise, code) {
  const err = await promise.then(() => null, why => why);
  check(err !== null, 'it was not refused');
  if (code !== undefined) equal(code, err.code, 'code of the answer');
  return err;
  return err;
}

// Who signs: the user's keys in users.conf. The client speaks to a cloud service by default and always signs; most servers do not look.
const keysOf = user => ({ accessKeyId: `${user}-access`, accessKeySecret: `${user}-secret` });

function options(namesrv, more) {
  return Object.assign({
    nameSrv: namesrv, ...keysOf('nobody'), logger: quiet, httpclient: {},
    sendMsgTimeout: 15000, rebalanceInterval: 500, pollNameServerInteval: 500, pullTimeDelayMillsWhenException: 500,
  }, more);
}

// What every case needs: names of its own, clients that are closed at its end.
class Kit {
  constructor(name, namesrv, broker) {
    Object.assign(this, { name, namesrv, broker, open: [], more: {} });
  }

  // The same for the server that wants access keys, with a user's. All of a process that has no instance name is one client.
  as(user, more) {
    const [ namesrv, broker ] = process.env.INTEROP_KEYS.split(' ');
    const other = new Kit(this.name, namesrv, broker);
    other.more = { ...keysOf(user), instanceName: other.unique('instance'), ...more };
    this.open.push(() => other.close());
    return other;
  }

  async close() {
    for (const close of this.open.reverse()) await close().catch(console.error);
  }

  // A fact that each server should show alike, for compare.py.
  note(what, value) {
    console.log(`note ${this.name} ${what}: ${value}`);
  }

  unique(what) {
    return `${this.name}-${what}-${++count}`;
  }

  async producer() {
    const producer = new Producer(options(this.namesrv, { producerGroup: this.unique('producer'), ...this.more }));
    producer.on('error', err => console.error(err));
    this.open.push(() => producer.close());
    await producer.ready();
    return producer;
  }

  // The client creates no topics, neither by asking nor by sending: one request of its own does.
  createTopic(queues, what) {
    const topic = this.unique(what || 'topic');
    const extFields = {
      topic, defaultTopic: 'TBW102', readQueueNums: queues, writeQueueNums: queues, perm: 6, topicFilterType: 'SINGLE_TAG', topicSysFlag: 0,
      order: false,
    };
    if (this.more.accessKeyId) {
      extFields.AccessKey = this.more.accessKeyId;
      const signed = Object.keys(extFields).sort().map(name => extFields[name]).join('');
      extFields.Signature = createHmac('sha1', this.more.accessKeySecret).update(signed).digest('base64');
    }
    const header = Buffer.from(JSON.stringify({ code: 17, opaque: 1, flag: 0, version: 121, language: 'JAVA', extFields }));
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
    }, this.more, more)));
    consumer.on('error', err => {
      console.error(err.message);
      if (this.more.failures) this.more.failures.push(err.message);
    });
    consumer.subscribe(topic, expression, handler);
    this.open.push(() => consumer.close());
    return consumer;
  }

  // Messages of a topic as they come.
  collect(topic, expression, group, more) {
    const inbox = [];
    this.consume(group || this.unique('group'), topic, expression || '*', async m => { inbox.push(m); }, more);
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

// A message that prepare puts off comes so much later, and after one that was sent after it.
async function later(kit, delayMs, prepare) {
  const topic = await kit.createTopic(1);
  const producer = await kit.producer();
  await kit.send(producer, topic, 'first');
  const inbox = kit.collect(topic);
  await until(() => inbox.length === 1, 'no message');
  const message = new Message(topic, '', 'later');
  message.properties.colour = 'blue';
  const sent = Date.now();
  prepare(message);
  await producer.send(message);
  await kit.send(producer, topic, 'at once');
  await until(() => inbox.length === 3, () => `got ${bodies(inbox)}`);
  const took = Date.now() - sent;
  equal([ 'first', 'at once', 'later' ], inbox.map(m => m.body.toString()), 'order');
  check(took >= delayMs, `it came after ${took} ms`);
  equal('blue', inbox[2].properties.colour, 'user property');
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

  // A send is a promise: many of them under way at once.
  async async(kit) {
    const topic = await kit.createTopic(4);
    const producer = await kit.producer();
    const results = await Promise.all(numbered(50).map(body => producer.send(new Message(topic, '', body))));
    for (const result of results) equal('SEND_OK', result.sendStatus, 'status');
    await expectBodies(kit.collect(topic), numbered(50));
  },

  // One key, one queue, one message at a time. Keys that the client's hash gives queue 0 are not among these: it spreads them.
  async ordered(kit) {
    const topic = await kit.createTopic(4);
    const producer = await kit.producer();
    const queueOf = key => createHash('md5').update(key).digest().readUInt32BE() % 4;
    const keys = Array.from({ length: 40 }, (_, i) => `order${i}`).filter(key => queueOf(key) !== 0).slice(0, 10);
    for (let i = 0; i < 100; i++) {
      const message = new Message(topic, '', `m${i}`);
      message.shardingKey = keys[i % 10];
      const result = await producer.send(message);
      equal(queueOf(keys[i % 10]), Number(result.messageQueue.queueId), 'queue');
    }
    const inbox = kit.collect(topic);
    await expectBodies(inbox, numbered(100));
    const last = {};
    for (const m of inbox) {
      const number = Number(m.body.toString().slice(1));
      check(!(number < last[m.shardingKey]), `${m.shardingKey}: ${number} after ${last[m.shardingKey]}`);
      last[m.shardingKey] = number;
    }
  },

  delayed: kit => later(kit, 5000, message => { message.delayTimeLevel = 2; }),
  'timed-delay': kit => later(kit, 3000, message => { message.properties.TIMER_DELAY_SEC = '3'; }),
  'timed-deliver-at': kit => later(kit, 3000, message => { message.properties.TIMER_DELIVER_MS = String(Date.now() + 3000); }),

  async 'empty-and-4-MiB-bodies'(kit) {
    const topic = await kit.createTopic(1);
    const producer = await kit.producer();
    const large = Buffer.alloc(4 * 1024 * 1024, () => Math.floor(Math.random() * 256));
    const send = body => producer.send(new Message(topic, '', body));
    producer.options.compressMsgBodyOverHowmuch = Infinity;
    kit.note('code for an empty body', (await refused(send(Buffer.alloc(0)))).code); // MESSAGE_ILLEGAL
    await send(large);
    const inbox = kit.collect(topic);
    await until(() => inbox.length === 1, 'no message');
    check(inbox[0].body.equals(large), 'the body is another');
    await refused(send(Buffer.concat([ large, Buffer.from('x') ])), 13); // MESSAGE_ILLEGAL
  },

  async 'refused-names'(kit) {
    const producer = await kit.producer();
    for (const topic of [ 'SCHEDULE_TOPIC_XXXX', 'RMQ_SYS_TRANS_HALF_TOPIC' ]) {
      await refused(producer.send(new Message(topic, '', 'x')));
    }
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

  async 'sql-filter'(kit) {
    const topic = await kit.createTopic(4);
    const producer = await kit.producer();
    for (let i = 0; i < 20; i++) {
      const message = new Message(topic, '', `m${i}`);
      Object.assign(message.properties, { price: String(i), colour: i % 2 ? 'blue' : 'red' });
      await producer.send(message);
    }
    const subString = "price BETWEEN 4 AND 9 AND colour = 'red'";
    await expectBodies(kit.collect(topic, { expressionType: 'SQL92', subString }), [ 'm4', 'm6', 'm8' ]);
  },

  async 'from-last-offset'(kit) {
    const topic = await kit.createTopic(1);
    const producer = await kit.producer();
    await kit.send(producer, topic, 'before');
    const inbox = kit.collect(topic, '*', kit.unique('group'), { consumeFromWhere: 'CONSUME_FROM_LAST_OFFSET' });
    const deadline = Date.now() + PATIENCE_MS;
    while (!bodies(inbox).includes('after')) {
      check(Date.now() < deadline, () => `got ${bodies(inbox)}`);
      await kit.send(producer, topic, 'after');
      await sleep(500);
    }
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

  async 'dead-letter'(kit) {
    const topic = await kit.createTopic(4);
    const group = kit.unique('group');
    await kit.send(await kit.producer(), topic, 'dead');
    let count = 0;
    kit.consume(group, topic, '*', async () => {
      count++;
      throw new Error('not this one'); // the client does not look at what it returns the second time
    }, { maxReconsumeTimes: 1 });
    await until(() => count === 2, 'no second time');
    await expectBodies(kit.collect(`%DLQ%${group}`), [ 'dead' ]);
    equal(2, count, 'deliveries');
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
      check(Date.now() - sent < 10000, `a message took ${Date.now() - sent} ms`);
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

  // All that a service does, signed: it sends, consumes, commits offsets and sends back.
  async 'access-keys'(kit) {
    const topic = await kit.as('owner').createTopic(4);
    const service = kit.as('service');
    const group = service.unique('group');
    const producer = await service.producer();
    for (let i = 0; i < 10; i++) await service.send(producer, topic, `m${i}`, 'TagA');
    const inbox = [];
    const first = service.consume(group, topic, 'TagA', async m => {
      inbox.push(m);
      return m.body.toString() === 'm3' && m.reconsumeTimes === 0 ? Consumer.ACTION_RETRY : undefined;
    });
    await expectBodies(inbox, [ ...numbered(10), 'm3' ].sort());
    await first.close();
    await service.send(producer, topic, 'later', 'TagA');
    await expectBodies(kit.as('service').collect(topic, 'TagA', group), [ 'later' ]);
  },

  async 'access-keys-refused'(kit) {
    const topic = await kit.as('owner').createTopic(1);
    await kit.send(await kit.as('service').producer(), topic, 'm0');
    for (const keys of [ { accessKeySecret: 'another' }, { accessKeyId: 'unknown-access' }, { accessKeyId: '', accessKeySecret: '' } ]) {
      await refused((await kit.as('service', keys).producer()).send(new Message(topic, '', 'refused')));
    }
    await refused(kit.as('service').createTopic(1)); // takes an administrator
    await expectBodies(kit.as('service').collect(topic), [ 'm0' ]);
  },

  async 'access-keys-permissions'(kit) {
    const owner = kit.as('owner');
    const topic = await owner.createTopic(1);
    const hidden = await owner.createTopic(1, 'hidden');
    const writer = await kit.as('writer').producer();
    await kit.send(writer, topic, 'm0');
    await refused(writer.send(new Message(hidden, '', 'refused')));
    await refused((await kit.as('reader').producer()).send(new Message(topic, '', 'refused')));
    await kit.send(await kit.as('service').producer(), hidden, 'secret');
    const failures = [[], []];
    const inboxes = [ kit.as('writer', { failures: failures[0] }).collect(topic), kit.as('reader', { failures: failures[1] }).collect(hidden) ];
    await until(() => failures.every(them => /no SUB|no consumer/.test(them.join())), () => `they hear ${failures}`);
    await expectBodies(kit.as('reader').collect(topic), [ 'm0' ]);
    await expectBodies(kit.as('service').collect(hidden), [ 'secret' ]);
    equal([ [], [] ], inboxes.map(bodies), 'messages of those that may not');
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
