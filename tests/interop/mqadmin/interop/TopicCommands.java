package interop;

import java.util.Map;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** Topics: made, shown, deleted. */
final class TopicCommands {
    static final String BROKER = "escrow-a";
    static final String CLUSTER = "DefaultCluster";

    private TopicCommands() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("updateTopic", TopicCommands::updateTopic);
        cases.put("topicList", TopicCommands::topicList);
        cases.put("topicRoute", TopicCommands::topicRoute);
        cases.put("topicStatus", TopicCommands::topicStatus);
        cases.put("topicClusterList", TopicCommands::topicClusterList);
        cases.put("deleteTopic", TopicCommands::deleteTopic);
        cases.put("cleanUnusedTopic", TopicCommands::cleanUnusedTopic);
    }

    static String create(Kit kit, int queues) throws Exception {
        String topic = kit.unique("topic");
        String output = Mqadmin.run(kit, "updateTopic", "-b", kit.broker, "-t", topic, "-r", "" + queues, "-w", "" + queues);
        Mqadmin.expect(output, "create topic to " + kit.broker + " success\\.");
        Mqadmin.eventually(kit, ".*\"writeQueueNums\":" + queues + ".*", "topicRoute", "-t", topic);
        return topic;
    }

    /** So many messages "m0", "m1", ... with the key "key" into one queue. */
    static void send(Kit kit, String topic, int queue, int count) throws Exception {
        DefaultMQProducer producer = kit.producer();
        for (int i = 0; i < count; i++) {
            producer.send(new Message(topic, "TagA", "key", Kit.bytes("m" + i)), new MessageQueue(topic, BROKER, queue));
        }
    }

    private static void updateTopic(Kit kit) throws Exception {
        String topic = create(kit, 3);
        Mqadmin.expect(Mqadmin.run(kit, "topicStatus", "-t", topic), BROKER + "\\s+2\\s+0\\s+0.*");
        Mqadmin.run(kit, "updateTopic", "-c", CLUSTER, "-t", topic, "-r", "5", "-w", "5", "-p", "4");
        Mqadmin.eventually(kit, ".*\"perm\":4,?.*", "topicRoute", "-t", topic);
        Mqadmin.eventually(kit, ".*\"readQueueNums\":5,?.*", "topicRoute", "-t", topic);
    }

    private static void topicList(Kit kit) throws Exception {
        String topic = create(kit, 1);
        String output = Mqadmin.run(kit, "topicList");
        Mqadmin.expect(output, topic);
        Mqadmin.expect(output, "TBW102");
        Mqadmin.expect(Mqadmin.run(kit, "topicList", "-c"), CLUSTER + "\\s+" + topic + ".*");
    }

    private static void topicRoute(Kit kit) throws Exception {
        String output = Mqadmin.run(kit, "topicRoute", "-t", create(kit, 3));
        Mqadmin.expect(output, ".*\"brokerName\":\"" + BROKER + "\",?.*");
        Mqadmin.expect(output, ".*" + kit.broker + ".*");
        Mqadmin.expect(output, ".*\"writeQueueNums\":3.*");
        Mqadmin.expect(output, ".*\"perm\":6,?.*");
    }

    private static void topicStatus(Kit kit) throws Exception {
        String topic = create(kit, 2);
        send(kit, topic, 1, 3);
        String output = Mqadmin.run(kit, "topicStatus", "-t", topic);
        Mqadmin.expect(output, BROKER + "\\s+0\\s+0\\s+0");
        Mqadmin.expect(output, BROKER + "\\s+1\\s+0\\s+3\\s+\\d{4}-\\d\\d-\\d\\d .*");
    }

    private static void topicClusterList(Kit kit) throws Exception {
        Mqadmin.expect(Mqadmin.run(kit, "topicClusterList", "-t", create(kit, 1)), CLUSTER);
    }

    private static void deleteTopic(Kit kit) throws Exception {
        String topic = create(kit, 1);
        send(kit, topic, 0, 3);
        Mqadmin.expect(Mqadmin.run(kit, "deleteTopic", "-c", CLUSTER, "-t", topic),
            "delete topic \\[" + topic + "\\] from cluster \\[" + CLUSTER + "\\] success\\.");
        Mqadmin.expectNot(Mqadmin.run(kit, "topicList"), topic);
        Kit.check(Mqadmin.tryRun(kit, "topicStatus", "-t", topic).contains("CODE: 17"), "the deleted topic has a status");
        Mqadmin.run(kit, "updateTopic", "-b", kit.broker, "-t", topic, "-r", "1", "-w", "1");
        Mqadmin.eventually(kit, BROKER + "\\s+0\\s+(\\d+)\\s+\\1", "topicStatus", "-t", topic);
        kit.note("first offset of the new topic", Mqadmin.part(Mqadmin.run(kit, "topicStatus", "-t", topic), BROKER + "\\s+0\\s+(\\d+)\\s.*"));
    }

    private static void cleanUnusedTopic(Kit kit) throws Exception {
        Mqadmin.expect(Mqadmin.run(kit, "cleanUnusedTopic", "-b", kit.broker), "success");
    }
}
