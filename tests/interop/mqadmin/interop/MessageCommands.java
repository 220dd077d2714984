package interop;

import java.util.Map;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** Messages: sent, printed, found again. */
final class MessageCommands {
    private static final String BROKER = TopicCommands.BROKER;

    private MessageCommands() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("sendMessage", MessageCommands::sendMessage);
        cases.put("consumeMessage", MessageCommands::consumeMessage);
        cases.put("printMsg", MessageCommands::printMsg);
        cases.put("queryMsgById", MessageCommands::queryMsgById);
        cases.put("queryMsgByKey", MessageCommands::queryMsgByKey);
        cases.put("queryMsgByUniqueKey", MessageCommands::queryMsgByUniqueKey);
        cases.put("queryMsgByOffset", MessageCommands::queryMsgByOffset);
        cases.put("queryCq", MessageCommands::queryCq);
        cases.put("checkMsgSendRT", MessageCommands::checkMsgSendRt);
    }

    /** The second of two messages in queue 1. */
    private static SendResult second(Kit kit, String topic) throws Exception {
        DefaultMQProducer producer = kit.producer();
        producer.send(new Message(topic, "TagA", "first", Kit.bytes("one")), new MessageQueue(topic, BROKER, 1));
        return producer.send(new Message(topic, "TagB", "second", Kit.bytes("two")), new MessageQueue(topic, BROKER, 1));
    }

    private static void expectSecond(String output, String topic, SendResult sent) {
        Mqadmin.expect(output, "Topic:\\s+" + topic);
        Mqadmin.expect(output, "Tags:\\s+\\[TagB\\]");
        Mqadmin.expect(output, "Keys:\\s+\\[second\\]");
        Mqadmin.expect(output, "Queue ID:\\s+1");
        Mqadmin.expect(output, "Queue Offset:\\s+1");
        Mqadmin.expect(output, ".*UNIQ_KEY=" + sent.getMsgId() + ".*");
    }

    private static void sendMessage(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 2);
        String output = Mqadmin.run(kit, "sendMessage", "-t", topic, "-p", "hello", "-b", BROKER, "-i", "1");
        Mqadmin.expect(output, BROKER + "\\s+1\\s+SEND_OK\\s+\\w+");
        Mqadmin.expect(Mqadmin.run(kit, "topicStatus", "-t", topic), BROKER + "\\s+1\\s+0\\s+1\\s.*");
    }

    private static void consumeMessage(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        TopicCommands.send(kit, topic, 0, 2);
        String output = Mqadmin.run(kit, "consumeMessage", "-t", topic, "-b", BROKER, "-i", "0", "-o", "0", "-c", "2");
        Mqadmin.expect(output, ".*BODY: m0");
        Mqadmin.expect(output, ".*BODY: m1");
    }

    private static void printMsg(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 2);
        TopicCommands.send(kit, topic, 1, 2);
        String output = Mqadmin.run(kit, "printMsg", "-t", topic, "-d", "true");
        Mqadmin.expect(output, "minOffset=0, maxOffset=2, MessageQueue \\[topic=" + topic + ", brokerName=" + BROKER + ", queueId=1\\]");
        Mqadmin.expect(output, ".*BODY: m0");
        Mqadmin.expect(output, ".*BODY: m1");
    }

    private static void queryMsgById(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 2);
        SendResult sent = second(kit, topic);
        for (String id : new String[] {sent.getOffsetMsgId(), sent.getMsgId()}) {
            String[] args = Kit.isVersion5() ? new String[] {"queryMsgById", "-i", id, "-t", topic} : new String[] {"queryMsgById", "-i", id};
            if (Kit.isVersion5() || id.equals(sent.getOffsetMsgId())) { /* 4.9 is not told where to look for the other one */
                expectSecond(Mqadmin.run(kit, args), topic, sent);
            }
        }
    }

    private static void queryMsgByKey(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 2);
        SendResult sent = second(kit, topic);
        String output = Mqadmin.run(kit, "queryMsgByKey", "-t", topic, "-k", "second");
        Mqadmin.expect(output, sent.getMsgId() + "\\s+1\\s+1(\\s.*)?"); /* 5.x adds a column */
        Kit.equal(1L, output.lines().filter(l -> l.matches("\\w+\\s+\\d+\\s+\\d+(\\s.*)?")).count(), "messages with the key");
    }

    private static void queryMsgByUniqueKey(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 2);
        SendResult sent = second(kit, topic);
        expectSecond(Mqadmin.run(kit, "queryMsgByUniqueKey", "-t", topic, "-i", sent.getMsgId()), topic, sent);
    }

    private static void queryMsgByOffset(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 2);
        SendResult sent = second(kit, topic);
        expectSecond(Mqadmin.run(kit, "queryMsgByOffset", "-t", topic, "-b", BROKER, "-i", "1", "-o", "1"), topic, sent);
    }

    private static void queryCq(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 2);
        second(kit, topic);
        String output = Mqadmin.run(kit, "queryCq", "-t", topic, "-q", "1", "-i", "0", "-c", "5", "-b", kit.broker);
        Mqadmin.expect(output, "max: 2, min: 0");
        Mqadmin.expect(output, ".*tagsCode=" + "TagA".hashCode() + ".*");
        Mqadmin.expect(output, ".*tagsCode=" + "TagB".hashCode() + ".*");
    }

    private static void checkMsgSendRt(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        String output = Mqadmin.run(kit, "checkMsgSendRT", "-t", topic, "-a", "3", "-s", "100");
        Mqadmin.expect(output, BROKER + "\\s+0\\s+true\\s+\\d+");
        Mqadmin.expect(output, "Avg RT: .*");
        Mqadmin.expect(Mqadmin.run(kit, "topicStatus", "-t", topic), BROKER + "\\s+0\\s+0\\s+3\\s.*");
    }
}
