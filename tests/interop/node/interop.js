'use strict';

// The original JavaScript client at work: the same commands and output as Interop.java.

const fs = require('fs');
// Installed below the target folder, not beside this file.
const { Producer, Consumer, Message } = require(require.resolve('ali-ons', { paths: [process.env.INTEROP_MODULES] }));

// It asks a web server for name servers, if none are given.
const httpclient = {};
const silent = { debug() {}, info() {}, warn() {}, error() {} };
const PATIENCE_MS = 100000;
// The brokers' delay levels 1 to 6.
const LEVEL_MS = [0, 1000, 2000, 1000, 1000, 1000, 3000];

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
let instances = 0;

function message(topic, i) {
  const one = new Message(topic, 'Tag' + 'ABCDE'[i % 5], `message ${i} \u6d88\u606f \u00e9\u00e8 \u{1f680}`);
  one.keys = [`key-${i}`, `\u952e-${i}`];
  one.flag = i;
  one.properties.index = String(i);
  one.properties['\u5c5e\u6027'] = `\u503c=${i}; "quoted" \\ \ttab`;
  return one;
}

async function producer(group, nameSrv, options) {
  const instanceName = `${group}-${process.pid}-${instances++}`;
  const one = new Producer({ nameSrv, httpclient, producerGroup: group, instanceName, logger: silent, ...options });
  one.on('error', error => console.error(error));
  await one.ready();
  return one;
}

// This client's sends create no topic.
async function create(client, topic) {
  const api = client._mqClient;
  const { brokerDatas } = await api.getTopicRouteInfoFromNameServer('TBW102', 3000);
  const [topicFilterType, queues] = ['SINGLE_TAG', { readQueueNums: 4, writeQueueNums: 4 }];
  const config = { topicName: topic, ...queues, perm: 6, topicFilterType, topicSysFlag: 0, order: false };
  await api.createTopic(brokerDatas[0].brokerAddrs[0], 'TBW102', config, 3000);
  // Its producers and consumers look at the name server next.
  for (let tries = 0; ; tries++) {
    try {
      await api.getTopicRouteInfoFromNameServer(topic, 3000);
      return topic;
    } catch (error) {
      if (tries > 100) throw error;
      await sleep(20);
    }
  }
}

function sent(i, result) {
  return {
    index: i, status: result.sendStatus, acked: result.sendStatus === 'SEND_OK', msgId: result.msgId,
    queueId: Number(result.messageQueue.queueId), queueOffset: Number(result.queueOffset),
  };
}

function received(one) {
  return {
    topic: one.topic, tags: one.tags, keys: one.keys, body: one.body.toString(), flag: one.flag, msgId: one.msgId,
    queueId: one.queueId, queueOffset: one.queueOffset, reconsumeTimes: one.reconsumeTimes, bodyCRC: one.bodyCRC,
    bornTimestamp: one.bornTimestamp, storeTimestamp: one.storeTimestamp, bornHost: one.bornHost,
    user: one.properties.index, userText: one.properties['\u5c5e\u6027'],
  };
}

function open(path) {
  const file = fs.openSync(path, 'w');
  return fields => fs.writeSync(file, JSON.stringify(fields) + '\n');
}

async function produce(nameSrv, topic, count, out) {
  const [one, write] = [await producer('interop-js-producer', nameSrv, { sendMsgTimeout: 10000 }), open(out)];
  await create(one, topic);
  for (let i = 0; i < Number(count); i++) write(sent(i, await one.send(message(topic, i))));
}

async function load(nameSrv, topic, seconds, out) {
  const options = { sendMsgTimeout: 1000, retryTimesWhenSendFailed: 0 };
  const [one, write] = [await producer('interop-js-load', nameSrv, options), open(out)];
  await create(one, topic);
  const end = Date.now() + 1000 * Number(seconds);
  // It goes on until it is told.
  const isEnough = () => fs.existsSync(out + '.enough') || Date.now() > end;
  let next = 0;
  const work = async () => {
    while (!isEnough()) {
      const i = next++;
      try {
        write(sent(i, await one.send(message(topic, i))));
      } catch (error) {
        await sleep(50);
      }
    }
  };
  await Promise.all(Array.from({ length: 8 }, work));
}

async function consumer(nameSrv, group, topic, expression, handle, options) {
  const one = new Consumer({
    nameSrv, httpclient, consumerGroup: group, instanceName: `${group}-${process.pid}-${instances++}`, logger: silent,
    consumeFromWhere: 'CONSUME_FROM_FIRST_OFFSET', pollNameServerInteval: 2000, rebalanceInterval: 1000, ...options,
  });
  one.on('error', error => console.error(error.message));
  one.subscribe(topic, expression, handle);
  await one.ready();
  return one;
}

async function consume(nameSrv, topic, group, count, seconds, out) {
  const [write, seen] = [open(out), new Set()];
  const one = await consumer(nameSrv, group, topic, '*', async message => {
    write(received(message));
    seen.add(message.msgId);
  });
  const end = Date.now() + 1000 * Number(seconds);
  while (seen.size < Number(count) && Date.now() < end) await sleep(20);
  await one.close();
}

// What an application does with the client all its life: the parts of Life.java that this client can do.
async function life(nameSrv, cold, out) {
  const write = open(out);
  const shared = await producer('life-js', nameSrv, { sendMsgTimeout: 10000 });
  const parts = { delay, retry, broadcast, sql92, tags };
  await Promise.all(Object.entries(parts).map(async ([part, run]) => {
    const start = Date.now();
    const fields = { part };
    try {
      fields.messages = await run(nameSrv, shared);
    } catch (error) {
      console.error(part, error);
      fields.error = String(error);
    }
    write({ ...fields, ms: Date.now() - start });
  }));
}

async function delay(nameSrv, shared) {
  const topic = await create(shared, 'LifeJsDelay');
  const levels = [1, 2, 6, 99];
  const [seen, arrived, sentAt] = [[], new Map(), new Map()];
  const one = await consumer(nameSrv, 'life-js-delay', topic, '*', async message => {
    arrived.set(index(message), Date.now());
    seen.push(message);
  });
  for (let i = 0; i < 40; i++) {
    const delayed = message(topic, i);
    delayed.delayTimeLevel = levels[i % 4];
    sentAt.set(i, Date.now());
    await send(shared, delayed);
  }
  await until('40 delayed messages', () => seen.length >= 40);
  for (const got of once(seen)) {
    const i = index(got);
    same(topic, i, got);
    const level = Math.min(levels[i % 4], 6);
    check(arrived.get(i) >= sentAt.get(i) + LEVEL_MS[level], `message ${i} came early`);
    // When it is stored is the broker's doing; when it arrives, that of a busy machine too.
    const late = got.storeTimestamp - got.bornTimestamp - LEVEL_MS[level];
    check(late >= 0 && late < 5000, `message ${i} was stored ${late} ms after it was due`);
    equal(level, got.delayTimeLevel, 'the level');
  }
  await one.close();
  return 40;
}

async function retry(nameSrv, shared) {
  const topic = await create(shared, 'LifeJsRetry');
  const seen = [];
  const one = await consumer(nameSrv, 'life-js-retry', topic, '*', async message => {
    seen.push(message);
    // 0 succeeds, 1 fails once, 2 fails twice: by an error, since of a retried message the client does not hear the result.
    if (message.reconsumeTimes < index(message) % 3) throw new Error('as it is to be');
  });
  const places = new Map();
  for (let i = 0; i < 12; i++) places.set(i, (await send(shared, message(topic, i))).msgId);
  await until('24 tries', () => seen.length >= 24);
  await sleep(300);
  const times = new Map();
  for (const got of seen) {
    const i = index(got);
    same(topic, i, got);
    equal(times.get(i) || 0, got.reconsumeTimes, `how often message ${i} was tried`);
    times.set(i, got.reconsumeTimes + 1);
    if (got.reconsumeTimes === 0) continue;
    equal(topic, got.retryTopic, 'where it came from');
    equal(places.get(i), got.originMessageId, 'its first id');
  }
  for (let i = 0; i < 12; i++) equal(i % 3 + 1, times.get(i), `deliveries of message ${i}`);
  await one.close();
  return seen.length;
}

async function broadcast(nameSrv, shared) {
  const topic = await create(shared, 'LifeJsBroadcast');
  const listeners = [[], []];
  const consumers = [];
  for (const seen of listeners) {
    const handle = async message => { seen.push(message); };
    consumers.push(await consumer(nameSrv, 'life-js-broadcast', topic, '*', handle, { isBroadcast: true }));
  }
  for (let i = 0; i < 40; i++) await send(shared, message(topic, i));
  for (const seen of listeners) {
    await until('40 messages of a broadcast', () => seen.length >= 40);
    for (const got of once(seen)) same(topic, index(got), got);
  }
  for (const one of consumers) await one.close();
  return 80;
}

async function sql92(nameSrv, shared) {
  const topic = await create(shared, 'LifeJsSql');
  const subString = "(price BETWEEN 10 AND 20 AND colour IN ('red', 'blue')) OR (TAGS = 'TagA' AND price IS NOT NULL)";
  return filtered(nameSrv, shared, topic, { expressionType: 'SQL92', subString }, i => {
    const one = message(topic, i);
    if (i !== 30) one.properties.price = String(i);
    one.properties.colour = ['red', 'blue', "it's"][i % 3];
    return one;
  }, i => (i >= 10 && i <= 20 && i % 3 < 2) || (i % 5 === 0 && i !== 30));
}

async function tags(nameSrv, shared) {
  const topic = await create(shared, 'LifeJsTags');
  return filtered(nameSrv, shared, topic, 'TagB || TagD', i => message(topic, i), i => i % 5 === 1 || i % 5 === 3);
}

// Exactly the messages that are expected come, each once and whole.
async function filtered(nameSrv, shared, topic, expression, make, holds) {
  const [seen, wanted] = [[], []];
  const one = await consumer(nameSrv, `life-${topic}`, topic, expression, async message => { seen.push(message); });
  for (let i = 0; i < 60; i++) {
    await send(shared, make(i));
    if (holds(i)) wanted.push(i);
  }
  await until('what passes the filter', () => seen.length >= wanted.length);
  await sleep(300);
  for (const got of once(seen)) same(topic, index(got), got);
  equal(wanted.join(), seen.map(index).sort((a, b) => a - b).join(), 'what passes the filter');
  await one.close();
  return seen.length;
}

const index = message => Number(message.properties.index);

async function send(shared, message) {
  const result = await shared.send(message);
  equal('SEND_OK', result.sendStatus, 'the status of a send');
  return result;
}

function once(seen) {
  check(new Set(seen.map(index)).size === seen.length, 'a message came twice');
  return seen;
}

function same(topic, i, got) {
  const expected = received(message(topic, i));
  const found = received(got);
  for (const field of ['topic', 'tags', 'keys', 'body', 'flag', 'user', 'userText']) {
    equal(expected[field], found[field], `${field} of message ${i}`);
  }
  const now = Date.now();
  check(found.bornTimestamp > now - 600000 && found.bornTimestamp <= now, `message ${i} was born at ${found.bornTimestamp}`);
  check(found.storeTimestamp >= found.bornTimestamp - 50, `message ${i} was stored at ${found.storeTimestamp}`);
}

async function until(what, holds) {
  const end = Date.now() + PATIENCE_MS;
  while (!holds()) {
    check(Date.now() < end, `waited in vain for ${what}`);
    await sleep(20);
  }
}

function check(holds, what) {
  if (!holds) throw new Error(what);
}

function equal(expected, found, what) {
  check(expected === found, `${what}: expected ${expected}, found ${found}`);
}

const [command, ...words] = process.argv.slice(2);
({ produce, load, consume, life })[command](...words).then(() => process.exit(0), error => {
  console.error(error);
  process.exit(1);
});
