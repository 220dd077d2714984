package interop;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.netty.NettyRemotingClient;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/**
 * What a broker answers to single requests, most of them wrong in one way that clients do not let through: its code and header are
 * notes, to be compared with another broker's.
 */
final class Answers implements AutoCloseable {
    private static final String LONG = String.join("", java.util.Collections.nCopies(200, "x"));
    /** SUCCESS, and what a pull is told. */
    private static final List<Integer> ANSWERS = Arrays.asList(0, 19, 20, 21);
    /** One of them is noted by itself, or it is another number each time. */
    private static final List<String> LEFT_OUT = Arrays.asList("topicSysFlag", "groupSysFlag", "totalTopicNum", "totalGroupNum",
        "indexLastUpdatePhyoffset", "reviveQid");
    private final Kit kit;
    private final NettyRemotingClient client = new NettyRemotingClient(new NettyClientConfig());

    private Answers(Kit kit) {
        this.kit = kit;
        client.start();
    }

    @Override
    public void close() {
        client.shutdown();
    }

    static void register(Map<String, Case> cases) {
        if (Kit.isVersion5()) {
            cases.put("answers-send", kit -> kit.later(new Answers(kit)).send());
            cases.put("answers-pull", kit -> kit.later(new Answers(kit)).pull());
            cases.put("answers-offsets", kit -> kit.later(new Answers(kit)).offsets());
            cases.put("answers-lookups", kit -> kit.later(new Answers(kit)).lookups());
            cases.put("answers-decisions", kit -> kit.later(new Answers(kit)).decisions());
            cases.put("answers-clients", kit -> kit.later(new Answers(kit)).clients());
            cases.put("answers-topics", kit -> kit.later(new Answers(kit)).topics());
            cases.put("answers-groups", kit -> kit.later(new Answers(kit)).groups());
            cases.put("answers-names", kit -> kit.later(new Answers(kit)).names());
            cases.put("answers-pop", kit -> kit.later(new Answers(kit)).pop());
        }
    }

    /** "name=value" pairs. */
    private static Map<String, String> fields(String... pairs) {
        Map<String, String> fields = new HashMap<>();
        for (String pair : pairs) {
            fields.put(pair.substring(0, pair.indexOf('=')), pair.substring(pair.indexOf('=') + 1));
        }
        return fields;
    }

    private static Map<String, String> with(Map<String, String> fields, String... pairs) {
        Map<String, String> all = new HashMap<>(fields);
        all.putAll(fields(pairs));
        return all;
    }

    private static Map<String, String> without(Map<String, String> fields, String name) {
        Map<String, String> rest = new HashMap<>(fields);
        rest.remove(name);
        return rest;
    }

    private static RemotingCommand request(int code, Map<String, String> fields, byte[] body) {
        RemotingCommand request = RemotingCommand.createRequestCommand(code, null);
        request.setExtFields(new HashMap<>(fields));
        if (code == 200050) { /* one that waited too long is told so */
            request.addExtField("bornTime", "" + System.currentTimeMillis());
        }
        request.setBody(body);
        return request;
    }

    /** The names of the fields of an answer. */
    private void noteFields(String what, int code, Map<String, String> fields) throws Exception {
        kit.note(what, new TreeMap<>(client.invokeSync(kit.broker, request(code, fields, null), 10_000).getExtFields()).keySet());
    }

    private String group() throws Exception {
        String group = kit.unique("group");
        Kit.equal(0, client.invokeSync(kit.broker, request(200, fields(), Kit.bytes("{\"groupName\":\"" + group + "\"}")), 10_000).getCode(),
            "a new group");
        return group;
    }

    private int ask(String what, int code, Map<String, String> fields) throws Exception {
        return ask(what, code, fields, null);
    }

    private int ask(String what, int code, Map<String, String> fields, byte[] body) throws Exception {
        return ask(kit.broker, what, code, fields, body);
    }

    /** The codes for the request with each of these fields left out, and for each of these changes. */
    private void refused(String what, int code, Map<String, String> good, byte[] body, String... changes) throws Exception {
        Set<Integer> codes = new TreeSet<>();
        for (String change : changes) {
            Map<String, String> wrong = change.contains("=") ? with(good, change) : without(good, change);
            codes.add(client.invokeSync(kit.broker, request(code, wrong, body), 10_000).getCode());
        }
        kit.note(what, codes);
    }

    /** Notes the code and, of an answer that is no refusal, the header without what is another one each time, and whether there is a body. */
    private int ask(String server, String what, int code, Map<String, String> fields, byte[] body) throws Exception {
        RemotingCommand answer = client.invokeSync(server, request(code, fields, body), 10_000);
        StringBuilder text = new StringBuilder().append(answer.getCode());
        if (answer.getExtFields() != null && ANSWERS.contains(answer.getCode())) {
            new TreeMap<>(answer.getExtFields()).forEach((name, value) -> {
                if (!LEFT_OUT.contains(name)) {
                    text.append(' ').append(name).append('=').append(value.matches("[0-9A-F]{32,}") ? "an id"
                        : value.matches("\\d{13}") ? "a time" : value);
                }
            });
        }
        boolean hasBody = answer.getBody() != null && answer.getBody().length > 0;
        kit.note(what, text.append(hasBody ? " body" : ""));
        return answer.getCode();
    }

    private String topic(int queues) throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = kit.createTopic(producer, queues);
        Kit.untilNoException(() -> producer.fetchPublishMessageQueues(topic));
        return topic;
    }

    private static String properties(String... pairs) {
        StringBuilder text = new StringBuilder();
        for (String pair : pairs) {
            text.append(pair.replace('=', (char) 1)).append((char) 2);
        }
        return text.toString();
    }

    private void send() throws Exception {
        String topic = topic(1);
        Map<String, String> good = fields("producerGroup=" + kit.unique("group"), "topic=" + topic, "defaultTopic=TBW102",
            "defaultTopicQueueNums=4", "queueId=0", "sysFlag=0", "bornTimestamp=" + System.currentTimeMillis(), "flag=0",
            "properties=" + properties("UNIQ_KEY=0123456789ABCDEF0123456789ABCDEF"), "reconsumeTimes=0", "unitMode=false", "batch=false");
        byte[] body = Kit.bytes("body");
        Kit.equal(0, ask("good", 10, good, body), "a send");
        ask("queue beyond", 10, with(good, "queueId=9"), body);
        refused("queue below", 10, good, body, "queueId=-1", "queueId=-5");
        ask("empty body", 10, good, new byte[0]);
        ask("unknown topic, unknown default", 10, with(good, "topic=" + kit.unique("topic"), "defaultTopic=nosuch"), body);
        ask("empty topic", 10, with(good, "topic="), body);
        ask("topic with a blank", 10, with(good, "topic=a b"), body);
        ask("topic of 200 letters", 10, with(good, "topic=" + LONG), body);
        for (String name : new String[] {"DefaultCluster", "escrow-a"}) { /* here, because the sends below may make them */
            ask("topic named '" + name + "'", 17, topicFields(name, 2, 2, 6));
        }
        for (String system : new String[] {"TBW102", "SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "RMQ_SYS_TRANS_OP_HALF_TOPIC",
            "TRANS_CHECK_MAX_TIME_TOPIC", "DefaultCluster", "escrow-a", "SELF_TEST_TOPIC", "OFFSET_MOVED_EVENT", "BenchmarkTest"}) {
            ask("topic " + system, 10, with(good, "topic=" + system), body);
        }
        ask("retry topic of no group", 10, with(good, "topic=%RETRY%" + kit.unique("group")), body);
        ask("dead-letter topic of no group", 10, with(good, "topic=%DLQ%" + kit.unique("group")), body);
        ask("properties too long", 10, with(good, "properties=" + properties("a=" + LONG.repeat(170))), body);
        ask("property without a value", 10, with(good, "properties=UNIQ_KEY"), body);
        ask("no properties", 10, without(good, "properties"), body);
        refused("delay level beyond", 10, good, body, "properties=" + properties("DELAY=99"));
        ask("delay level below", 10, with(good, "properties=" + properties("DELAY=-1")), body);
        ask("delay level no number", 10, with(good, "properties=" + properties("DELAY=x")), body);
        ask("timer too late", 10, with(good, "properties=" + properties("TIMER_DELAY_SEC=99999999")), body);
        ask("timer in the past", 10, with(good, "properties=" + properties("TIMER_DELIVER_MS=1")), body);
        ask("timer no number", 10, with(good, "properties=" + properties("TIMER_DELAY_MS=x")), body);
        refused("without a field", 10, good, body, "topic", "queueId", "bornTimestamp", "sysFlag", "flag");
        refused("without a group", 10, good, body, "producerGroup");
        refused("without what need not be there", 10, good, body, "defaultTopic", "batch");
        refused("not a number", 10, good, body, "queueId=x", "sysFlag=x", "bornTimestamp=");
        ask("batch of nonsense", 320, with(good, "batch=true"), body);
        ask("topic may not be written, made", 17, topicFields(topic, 1, 1, 4));
        ask("topic may not be written", 10, good, body);
        ask("batch flag on a single message", 10, with(good, "batch=true", "topic=" + topic(1)), body);
    }

    private static Map<String, String> topicFields(String topic, int read, int write, int permission) {
        return fields("topic=" + topic, "defaultTopic=TBW102", "readQueueNums=" + read, "writeQueueNums=" + write, "perm=" + permission,
            "topicFilterType=SINGLE_TAG", "topicSysFlag=0", "order=false");
    }

    private void pull() throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = topic(1);
        Kit.sendMany(producer, topic, 5);
        Map<String, String> good = fields("consumerGroup=" + group(), "topic=" + topic, "queueId=0", "queueOffset=0",
            "maxMsgNums=3", "sysFlag=4", "commitOffset=0", "suspendTimeoutMillis=0", "subscription=*", "subVersion=0", "expressionType=TAG");
        Kit.equal(0, ask("good", 11, good), "a pull");
        noteFields("fields of the answer", 11, good);
        ask("one message", 11, with(good, "maxMsgNums=1"));
        ask("no message", 11, with(good, "maxMsgNums=0"));
        ask("fewer than none", 11, with(good, "maxMsgNums=-1"));
        ask("at the end", 11, with(good, "queueOffset=5"));
        ask("behind the end", 11, with(good, "queueOffset=6"));
        ask("before the beginning", 11, with(good, "queueOffset=-1"));
        ask("a tag nobody has", 11, with(good, "subscription=none"));
        ask("queue beyond", 11, with(good, "queueId=1"));
        ask("queue below", 11, with(good, "queueId=-1"));
        ask("unknown topic", 11, with(good, "topic=" + kit.unique("topic")));
        ask("empty topic", 11, with(good, "topic="));
        ask("empty group", 11, with(good, "consumerGroup="));
        ask("group with a blank", 11, with(good, "consumerGroup=a b"));
        ask("no subscription, not connected", 11, with(good, "sysFlag=0"));
        ask("SQL", 11, with(good, "expressionType=SQL92", "subscription=a IS NULL"));
        ask("wrong SQL", 11, with(good, "expressionType=SQL92", "subscription=a >"));
        ask("unknown type of expression", 11, with(good, "expressionType=XPATH"));
        ask("empty expression", 11, with(good, "subscription="));
        ask("offset to commit", 11, with(good, "sysFlag=5", "commitOffset=2", "queueOffset=2"));
        ask("offset that was committed", 14, fields("consumerGroup=" + good.get("consumerGroup"), "topic=" + topic, "queueId=0"));
        refused("without a field", 11, good, null, "topic", "queueId", "consumerGroup", "queueOffset", "maxMsgNums", "sysFlag");
        refused("without what need not be there", 11, good, null, "subscription", "expressionType", "subVersion", "suspendTimeoutMillis");
        ask("lite", 361, good);
        String closed = kit.unique("group");
        ask("group is closed, made", 200, fields(), Kit.bytes("{\"groupName\":\"" + closed + "\",\"consumeEnable\":false}"));
        ask("group is closed", 11, with(good, "consumerGroup=" + closed));
        ask("topic may not be read, made", 17, topicFields(topic, 1, 1, 2));
        ask("topic may not be read", 11, good);
    }

    private void offsets() throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = topic(1);
        Kit.send(producer, topic, "", "m0");
        String group = group();
        Map<String, String> good = fields("consumerGroup=" + group, "topic=" + topic, "queueId=0");
        ask("none yet, young queue", 14, good);
        ask("none yet, empty queue", 14, with(good, "topic=" + topic(1)));
        ask("unknown group", 14, with(good, "consumerGroup=" + kit.unique("group")));
        ask("none yet, no zero wanted", 14, with(good, "setZeroIfNotFound=false"));
        ask("none yet, queue beyond", 14, with(good, "queueId=7"));
        ask("unknown topic", 14, with(good, "topic=" + kit.unique("topic")));
        ask("group with a blank", 14, with(good, "consumerGroup=a b"));
        ask("update", 15, with(good, "commitOffset=1"));
        ask("updated", 14, good);
        ask("update beyond the end", 15, with(good, "commitOffset=100"));
        ask("updated beyond the end", 14, good);
        ask("update below", 15, with(good, "commitOffset=-1"));
        ask("updated below", 14, good);
        ask("update, queue beyond", 15, with(good, "commitOffset=1", "queueId=7"));
        ask("update, unknown topic", 15, with(good, "commitOffset=1", "topic=" + kit.unique("topic")));
        ask("update, unknown group", 15, with(good, "commitOffset=1", "consumerGroup=" + kit.unique("group")));
        refused("update without a field", 15, with(good, "commitOffset=1"), null, "commitOffset", "topic", "queueId");
        for (int code : new int[] {30, 31, 32}) {
            String what = code == 30 ? "maximum" : code == 31 ? "minimum" : "earliest time";
            ask(what + ", empty queue", code, fields("topic=" + topic(1), "queueId=0"));
            ask(what + ", queue beyond", code, fields("topic=" + topic, "queueId=7"));
            ask(what + ", unknown topic", code, fields("topic=" + kit.unique("topic"), "queueId=0"));
        }
        for (String time : new String[] {"0", "-1", "99999999999999"}) {
            ask("by time " + time, 29, fields("topic=" + topic, "queueId=0", "timestamp=" + time));
        }
        for (String time : new String[] {"0", "1", "9999999999999"}) {
            ask("by time upper " + time, 29, fields("topic=" + topic, "queueId=0", "timestamp=" + time, "boundaryType=UPPER"));
        }
        ask("by time, no such boundary", 29, fields("topic=" + topic, "queueId=0", "timestamp=0", "boundaryType=NONE"));
        ask("by time, queue beyond", 29, fields("topic=" + topic, "queueId=7", "timestamp=0"));
        ask("by time, unknown topic", 29, fields("topic=" + kit.unique("topic"), "queueId=0", "timestamp=0"));
        ask("reset", 222, fields("topic=" + topic, "group=" + group, "timestamp=-1", "isForce=true"));
        ask("reset, unknown group", 222, fields("topic=" + topic, "group=" + kit.unique("group"), "timestamp=-1", "isForce=true"));
        ask("reset, unknown topic", 222, fields("topic=" + kit.unique("topic"), "group=" + group, "timestamp=-1", "isForce=true"));
        ask("reset to an offset", 222, fields("topic=" + topic, "group=" + group, "timestamp=-1", "isForce=true", "queueId=0", "offset=0"));
        ask("reset to an offset beyond", 222, fields("topic=" + topic, "group=" + group, "timestamp=-1", "isForce=true", "queueId=0", "offset=9"));
    }

    private void lookups() throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = topic(1);
        SendResult sent = producer.send(new Message(topic, "TagA", "key", Kit.bytes("m0")));
        long offset = Long.parseLong(sent.getOffsetMsgId().substring(16), 16);
        Kit.equal(0, ask("by offset", 33, fields("offset=" + offset)), "a view");
        ask("by offset, not one", 33, fields("offset=" + (offset + 1)));
        ask("by offset, beyond", 33, fields("offset=99999999999"));
        ask("by offset, below", 33, fields("offset=-1"));
        Map<String, String> key = fields("topic=" + topic, "key=key", "maxNum=32", "beginTimestamp=0", "endTimestamp=9999999999999");
        Kit.eventually(0, () -> client.invokeSync(kit.broker, request(12, key, null), 5000).getCode(), "a look-up");
        ask("by key, none", 12, with(key, "key=none"));
        ask("by key, unknown topic", 12, with(key, "topic=" + kit.unique("topic")));
        ask("by key, times turned", 12, with(key, "beginTimestamp=9999999999999", "endTimestamp=0"));
        ask("by key, none wanted", 12, with(key, "maxNum=0"));
        Map<String, String> entries = fields("topic=" + topic, "queueId=0", "index=0", "count=5");
        ask("entries", 321, entries);
        ask("entries, unknown topic", 321, with(entries, "topic=" + kit.unique("topic")));
        ask("entries, queue beyond", 321, with(entries, "queueId=7"));
        ask("entries beyond", 321, with(entries, "index=7"));
        ask("entries, none wanted", 321, with(entries, "count=0"));
        ask("recall, nonsense", 370, fields("topic=" + topic, "recallHandle=nonsense"));
        ask("recall, empty", 370, fields("topic=" + topic, "recallHandle="));
        ask("unknown code", 9999, fields());
    }

    private void decisions() throws Exception {
        String topic = topic(1);
        DefaultMQProducer producer = kit.producer();
        SendResult plain = Kit.send(producer, topic, "", "not a half");
        long offset = Long.parseLong(plain.getOffsetMsgId().substring(16), 16);
        Map<String, String> good = fields("topic=" + topic, "producerGroup=" + kit.unique("producer"), "tranStateTableOffset=0",
            "commitLogOffset=" + offset, "commitOrRollback=8", "fromTransactionCheck=false", "msgId=" + plain.getMsgId(),
            "transactionId=" + plain.getMsgId());
        ask("commit of a message that is no half", 37, good);
        ask("commit of nothing", 37, with(good, "commitLogOffset=999999999"));
        ask("commit between messages", 37, with(good, "commitLogOffset=" + (offset + 1)));
        ask("commit below", 37, with(good, "commitLogOffset=-1"));
        ask("neither commit nor rollback", 37, with(good, "commitOrRollback=3"));
        ask("rollback of nothing", 37, with(good, "commitLogOffset=999999999", "commitOrRollback=12"));
        ask("commit after a check, of nothing", 37, with(good, "commitLogOffset=999999999", "fromTransactionCheck=true"));
        Map<String, String> back = fields("offset=" + offset, "group=" + group(), "delayLevel=1", "originMsgId=" + plain.getMsgId(),
            "originTopic=" + topic, "unitMode=false", "maxReconsumeTimes=16");
        ask("back", 36, back);
        ask("back at once to the dead", 36, with(back, "delayLevel=-1"));
        ask("back, level beyond", 36, with(back, "delayLevel=99"));
        ask("back, no such message", 36, with(back, "offset=999999999"));
        ask("back, between messages", 36, with(back, "offset=" + (offset + 1)));
        ask("back, group with a blank", 36, with(back, "group=a b"));
        ask("back, unknown group", 36, with(back, "group=" + kit.unique("group")));
        refused("back, without a field", 36, back, null, "group", "offset", "delayLevel");
    }

    private void clients() throws Exception {
        String topic = topic(1);
        String group = kit.unique("group");
        refused("heartbeat of nonsense", 34, fields(), Kit.bytes("nonsense"), "none");
        refused("lock of nonsense", 41, fields(), Kit.bytes("nonsense"), "none");
        ask("heartbeat of nobody", 34, fields(), Kit.bytes("{\"clientID\":\"c\",\"producerDataSet\":[],\"consumerDataSet\":[]}"));
        ask("unregister", 35, fields("clientID=c", "producerGroup=" + group));
        ask("unregister nobody", 35, fields("clientID=c"));
        ask("members of nobody", 38, fields("consumerGroup=" + group));
        ask("members of an empty name", 38, fields("consumerGroup="));
        String lock = "{\"consumerGroup\":\"" + group + "\",\"clientId\":\"c\",\"mqSet\":[{\"topic\":\"" + topic
            + "\",\"brokerName\":\"escrow-a\",\"queueId\":0}]}";
        ask("lock", 41, fields(), Kit.bytes(lock));
        ask("lock of nothing", 41, fields(), Kit.bytes("{\"consumerGroup\":\"" + group + "\",\"clientId\":\"c\",\"mqSet\":[]}"));
        ask("unlock", 42, fields(), Kit.bytes(lock));
        ask("unlock again", 42, fields(), Kit.bytes(lock));
        String check = "{\"clientId\":\"c\",\"group\":\"" + group + "\",\"subscriptionData\":{\"topic\":\"" + topic
            + "\",\"subString\":\"%s\",\"expressionType\":\"SQL92\",\"subVersion\":1}}";
        ask("check of SQL", 46, fields(), Kit.bytes(String.format(check, "a = 1")));
        ask("check of wrong SQL", 46, fields(), Kit.bytes(String.format(check, "a =")));
        ask("check of nothing", 46, fields(), Kit.bytes("{}"));
        ask("consumers of nobody", 203, fields("consumerGroup=" + group));
        ask("producers of nobody", 204, fields("producerGroup=" + group));
        ask("what nobody runs", 307, fields("consumerGroup=" + group, "clientId=c", "jstackEnable=false"));
        ask("a message to nobody", 309, fields("consumerGroup=" + group, "clientId=c", "msgId=7F00000100002A9F0000000000000000",
            "brokerName=escrow-a", "topic=" + topic));
        ask("reply to nobody", 324, fields("producerGroup=" + group, "topic=" + topic, "defaultTopic=TBW102", "defaultTopicQueueNums=4",
            "queueId=0", "sysFlag=0", "bornTimestamp=" + System.currentTimeMillis(), "flag=0",
            "properties=" + properties("REPLY_TO_CLIENT=nobody", "CORRELATION_ID=1"), "reconsumeTimes=0", "unitMode=false"), Kit.bytes("r"));
        ask("status of nobody", 221, fields("topic=" + topic, "group=" + group));
    }

    private void topics() throws Exception {
        String topic = kit.unique("topic");
        Map<String, String> good = topicFields(topic, 2, 2, 6);
        Kit.equal(0, ask("made", 17, good), "a topic");
        ask("made again", 17, good);
        for (String name : new String[] {"", "a b", "a/b", "a%b", "\u00e9", "TBW102", "SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC"}) {
            ask("named '" + name.replace(':', ';') + "'", 17, with(good, "topic=" + name));
        }
        ask("name of 200 letters", 17, with(good, "topic=" + LONG));
        ask("name of 127 letters", 17, with(good, "topic=" + LONG.substring(0, 127)));
        ask("name of 128 letters", 17, with(good, "topic=" + LONG.substring(0, 128)));
        ask("no queues", 17, with(good, "readQueueNums=0", "writeQueueNums=0"));
        ask("fewer queues than none", 17, with(good, "readQueueNums=-1", "writeQueueNums=-1"));
        ask("many queues", 17, with(good, "readQueueNums=100000", "writeQueueNums=100000", "topic=" + kit.unique("topic")));
        ask("no permission", 17, with(good, "perm=0", "topic=" + kit.unique("topic")));
        ask("a permission that is none", 17, with(good, "perm=99", "topic=" + kit.unique("topic")));
        ask("other kind of filter", 17, with(good, "topicFilterType=MULTI_TAG"));
        ask("a filter that is none", 17, with(good, "topicFilterType=NONE"));
        refused("without a field", 17, good, null, "readQueueNums", "writeQueueNums", "perm", "topic", "defaultTopic");
        ask("with an attribute", 17, with(good, "attributes=+message.type=FIFO", "topic=" + kit.unique("topic")));
        ask("with an attribute that is none", 17, with(good, "attributes=+no.such=x", "topic=" + kit.unique("topic")));
        ask("configuration", 351, fields("topic=" + topic));
        ask("configuration, unknown", 351, fields("topic=" + kit.unique("topic")));
        ask("statistics", 202, fields("topic=" + topic));
        ask("statistics, unknown", 202, fields("topic=" + kit.unique("topic")));
        ask("who consumes", 300, fields("topic=" + topic));
        ask("who consumes, unknown", 300, fields("topic=" + kit.unique("topic")));
        ask("all", 21, fields());
        noteFields("fields of all", 21, fields());
        ask("system topics", 305, fields());
        ask("deleted", 215, fields("topic=" + topic));
        ask("deleted again", 215, fields("topic=" + topic));
        ask("deleted, system", 215, fields("topic=RMQ_SYS_TRANS_HALF_TOPIC"));
        ask("deleted, empty name", 215, fields("topic="));
        ask("unused ones cleaned", 316, fields());
    }

    private void groups() throws Exception {
        String topic = topic(1);
        String group = kit.unique("group");
        ask("unknown, configuration", 352, fields("group=" + kit.unique("group")));
        Kit.equal(0, ask("made", 200, fields(), Kit.bytes("{\"groupName\":\"" + group + "\",\"retryMaxTimes\":3}")), "a group");
        ask("configuration", 352, fields("group=" + group));
        ask("all", 201, fields());
        noteFields("fields of all", 201, fields());
        for (String name : new String[] {"", "a b", "a/b", "TBW102", "CID_RMQ_SYS_X", LONG.substring(0, 121), LONG}) {
            ask("named '" + (name.length() > 100 ? "x " + name.length() : name) + "'", 200, fields(), Kit.bytes("{\"groupName\":\"" + name + "\"}"));
        }
        for (String what : new String[] {"\"retryQueueNums\":0", "\"retryQueueNums\":-1", "\"retryMaxTimes\":-1", "\"attributes\":{\"+priority.factor\":\"7\"}",
            "\"attributes\":{\"-priority.factor\":\"\"}", "\"attributes\":{\"-none\":\"\"}", "\"attributes\":{\"+none\":\"1\"}", "\"attributes\":{\"none\":\"1\"}",
            "\"attributes\":[]", "\"groupRetryPolicy\":{\"type\":\"NONE\"}", "\"groupRetryPolicy\":1", "\"subscriptionDataSet\":1", "\"none\":[{}]"}) {
            ask("with " + what.replace("\"", "").replace(".", "-"), 200, fields(), Kit.bytes("{\"groupName\":\"" + group + "\"," + what + "}"));
        }
        Kit.equal(0, ask("all of it", 200, fields(), Kit.bytes("{\"groupName\":\"" + group + "\",\"attributes\":{\"+priority.factor\":\"7\"},"
            + "\"groupRetryPolicy\":{\"type\":\"EXPONENTIAL\",\"exponentialRetryPolicy\":{\"initial\":100,\"multiplier\":3}},\"subscriptionDataSet\":[{\"topic\":\"" + topic
            + "\",\"expressionType\":\"TAG\",\"expression\":\"*\",\"version\":5}],\"retryQueueNums\":0,\"retryMaxTimes\":-1}")), "a group");
        String shown = new String(client.invokeSync(kit.broker, request(352, fields("group=" + group), null), 10_000).getBody());
        for (String part : new String[] {"\"priority.factor\":\"7\"", "\"type\":\"EXPONENTIAL\"", "\"initial\":100", "\"max\":7200000", "\"multiplier\":3",
            "\"expressionType\":\"TAG\"", "\"topic\":\"" + topic + "\"", "\"version\":5", "\"retryQueueNums\":0", "\"retryMaxTimes\":-1"}) {
            kit.note("shows " + part.replace("\"", "").replace(topic, "it").replace(".", "-"), shown.contains(part));
        }
        ask("without a name", 200, fields(), Kit.bytes("{}"));
        ask("without a body", 200, fields());
        refused("of nonsense", 200, fields(), Kit.bytes("nonsense"), "none");
        ask("progress", 208, fields("consumerGroup=" + group, "topic=" + topic));
        ask("progress of all its topics", 208, fields("consumerGroup=" + group));
        ask("progress, unknown", 208, fields("consumerGroup=" + kit.unique("group")));
        ask("topics", 343, fields("group=" + group));
        ask("topics, unknown", 343, fields("group=" + kit.unique("group")));
        ask("subscription", 345, fields("group=" + group, "topic=" + topic));
        ask("time span", 303, fields("group=" + group, "topic=" + topic));
        ask("all offsets", 43, fields());
        ask("offsets copied", 314, fields("srcGroup=" + group, "destGroup=" + kit.unique("group"), "topic=" + topic, "offline=false"));
        ask("statistics", 317, fields("isOrder=false"));
        ask("figures, unknown", 315, fields("statsName=TOPIC_PUT_NUMS", "statsKey=" + kit.unique("topic")));
        ask("figures, no such", 315, fields("statsName=NONE", "statsKey=x"));
        ask("deleted", 207, fields("groupName=" + group, "cleanOffset=true"));
        ask("deleted again", 207, fields("groupName=" + group, "cleanOffset=true"));
        ask("deleted, configuration", 352, fields("group=" + group));
        ask("mode", 401, fields(), Kit.bytes("{\"topic\":\"" + topic + "\",\"consumerGroup\":\"" + group
            + "\",\"mode\":\"POP\",\"popShareQueueNum\":0}"));
        ask("mode of a retry topic", 401, fields(), Kit.bytes("{\"topic\":\"%RETRY%" + group + "\",\"consumerGroup\":\"" + group
            + "\",\"mode\":\"POP\",\"popShareQueueNum\":0}"));
        ask("mode that is none", 401, fields(), Kit.bytes("{\"topic\":\"" + topic + "\",\"consumerGroup\":\"" + group
            + "\",\"mode\":\"NONE\"}"));
        ask("assignment", 400, fields(), Kit.bytes("{\"topic\":\"" + topic + "\",\"consumerGroup\":\"" + group
            + "\",\"clientId\":\"c\",\"strategyName\":\"AVG\",\"messageModel\":\"CLUSTERING\"}"));
        ask("assignment, strategy that is none", 400, fields(), Kit.bytes("{\"topic\":\"" + topic + "\",\"consumerGroup\":\"" + group
            + "\",\"clientId\":\"c\",\"strategyName\":\"NONE\",\"messageModel\":\"CLUSTERING\"}"));
    }

    /** The name server. */
    private void names() throws Exception {
        String topic = topic(1);
        String space = kit.unique("space");
        Kit.equal(0, ask(kit.namesrv, "route", 105, fields("topic=" + topic), null), "a route");
        ask(kit.namesrv, "route, unknown", 105, fields("topic=" + kit.unique("topic")), null);
        ask(kit.namesrv, "route, empty", 105, fields("topic="), null);
        ask(kit.namesrv, "route without a topic", 105, fields(), null);
        ask(kit.namesrv, "route as 5.x asks", 105, fields("topic=" + topic, "acceptStandardJsonOnly=true"), null);
        ask(kit.namesrv, "cluster", 106, fields(), null);
        ask(kit.namesrv, "topics", 206, fields(), null);
        ask(kit.namesrv, "topics of the cluster", 224, fields("cluster=DefaultCluster"), null);
        ask(kit.namesrv, "topics of no cluster", 224, fields("cluster=none"), null);
        ask(kit.namesrv, "system topics", 304, fields(), null);
        ask(kit.namesrv, "put", 100, fields("namespace=" + space, "key=k", "value=v"), null);
        ask(kit.namesrv, "get", 101, fields("namespace=" + space, "key=k"), null);
        ask(kit.namesrv, "get, unknown key", 101, fields("namespace=" + space, "key=none"), null);
        ask(kit.namesrv, "get, unknown space", 101, fields("namespace=none", "key=k"), null);
        ask(kit.namesrv, "get without a key", 101, fields("namespace=" + space), null);
        ask(kit.namesrv, "list", 219, fields("namespace=" + space), null);
        ask(kit.namesrv, "list, unknown", 219, fields("namespace=none"), null);
        ask(kit.namesrv, "delete", 102, fields("namespace=" + space, "key=k"), null);
        ask(kit.namesrv, "delete again", 102, fields("namespace=" + space, "key=k"), null);
        ask(kit.namesrv, "deleted topic", 216, fields("topic=" + kit.unique("topic")), null);
        ask(kit.namesrv, "wipe, no broker", 205, fields("brokerName=none"), null);
        ask(kit.namesrv, "add, no broker", 327, fields("brokerName=none"), null);
        ask(kit.namesrv, "configuration", 319, fields(), null);
        ask(kit.namesrv, "unknown code", 9999, fields(), null);
    }

    private void pop() throws Exception {
        DefaultMQProducer producer = kit.producer();
        String topic = topic(1);
        Kit.sendMany(producer, topic, 3);
        String group = group();
        Map<String, String> good = fields("consumerGroup=" + group, "topic=" + topic, "queueId=0", "maxMsgNums=1", "invisibleTime=60000",
            "pollTime=0", "initMode=0", "expType=TAG", "exp=*", "order=false");
        ask("pop", 200050, good);
        noteFields("fields of the answer", 200050, with(good, "consumerGroup=" + group()));
        for (String[] change : new String[][] {{"maxMsgNums=33"}, {"maxMsgNums=0"}, {"queueId=7"}, {"queueId=-2"}, {"invisibleTime=0"},
            {"expType=SQL92", "exp=a IS NULL"}, {"expType=SQL92", "exp=a >"}, {"expType=NONE"}, {"initMode=1"}, {"initMode=9"},
            {"maxMsgNums=2"}, {"exp=none"}}) {
            ask("pop with " + String.join(" ", Arrays.asList(change)), 200050, with(with(good, "consumerGroup=" + group()), change));
        }
        ask("pop, unknown topic", 200050, with(good, "topic=" + kit.unique("topic")));
        ask("pop, unknown group", 200050, with(good, "consumerGroup=" + kit.unique("group")));
        ask("pop, group with a blank", 200050, with(good, "consumerGroup=a b"));
        refused("pop without a field", 200050, good, null, "topic", "consumerGroup", "queueId", "maxMsgNums", "invisibleTime", "pollTime");
        Map<String, String> ack = fields("consumerGroup=" + group, "topic=" + topic, "queueId=0", "extraInfo=0 0 60000 0 0 escrow-a 0 0", "offset=0");
        ask("acknowledged, never popped", 200051, ack);
        ask("acknowledged, nonsense", 200051, with(ack, "extraInfo=nonsense"));
        ask("acknowledged, queue beyond", 200051, with(ack, "queueId=7"));
        ask("acknowledged, offset beyond", 200051, with(ack, "offset=99"));
        ask("acknowledged, unknown topic", 200051, with(ack, "topic=" + kit.unique("topic")));
        ask("later, never popped", 200053, with(ack, "invisibleTime=1000"));
        ask("later, nonsense", 200053, with(ack, "invisibleTime=1000", "extraInfo=nonsense"));
        ask("later, unknown topic", 200053, with(ack, "invisibleTime=1000", "topic=" + kit.unique("topic")));
        ask("acknowledged together, nothing", 200151, fields(), "{\"brokerName\":\"escrow-a\",\"acks\":[]}".getBytes(StandardCharsets.UTF_8));
        ask("acknowledged together, no body", 200151, fields());
    }
}
