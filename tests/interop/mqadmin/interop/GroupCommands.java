package interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;

/** Groups: configured, looked at, set back. */
final class GroupCommands {
    private static final String BROKER = TopicCommands.BROKER;
    private static final String CLUSTER = TopicCommands.CLUSTER;

    private GroupCommands() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("updateSubGroup", GroupCommands::updateSubGroup);
        cases.put("deleteSubGroup", GroupCommands::deleteSubGroup);
        cases.put("consumerProgress", GroupCommands::consumerProgress);
        cases.put("consumerConnection", GroupCommands::consumerConnection);
        cases.put("consumerStatus", GroupCommands::consumerStatus);
        cases.put("queryMsgById-push", GroupCommands::consumeDirectly);
        cases.put("producerConnection", GroupCommands::producerConnection);
        cases.put("cloneGroupOffset", GroupCommands::cloneGroupOffset);
        cases.put("brokerConsumeStats", GroupCommands::brokerConsumeStats);
        cases.put("statsAll", GroupCommands::statsAll);
        cases.put("resetOffsetByTime", GroupCommands::resetOffline);
        cases.put("resetOffsetByTime-online", GroupCommands::resetOnline);
    }

    /** A consumer that is started and collects. */
    private static DefaultMQPushConsumer start(Kit kit, String group, String topic, Inbox inbox) throws Exception {
        DefaultMQPushConsumer consumer = kit.consumer(group, topic, "*");
        consumer.setPersistConsumerOffsetInterval(500);
        consumer.registerMessageListener(inbox);
        consumer.start();
        return consumer;
    }

    /** A line of consumerProgress for one queue of the topic. */
    static String progress(String topic, int queue, int max, int consumed) {
        return topic + "\\s+" + BROKER + "\\s+" + queue + "\\s+" + max + "\\s+" + consumed + "\\s+" + (max - consumed) + "\\s.*";
    }

    private static void updateSubGroup(Kit kit) throws Exception {
        String group = kit.unique("group");
        Mqadmin.expect(Mqadmin.run(kit, "updateSubGroup", "-b", kit.broker, "-g", group, "-r", "3", "-q", "2", "-s", "false"),
            "create subscription group to " + kit.broker + " success\\.");
        String output = Mqadmin.run(kit, "getConsumerConfig", "-g", group);
        Mqadmin.expect(output, "retryMaxTimes\\s+=\\s+3");
        Mqadmin.expect(output, "retryQueueNums\\s+=\\s+2");
        Mqadmin.expect(output, "consumeEnable\\s+=\\s+false");
        Mqadmin.expect(output, "consumeBroadcastEnable\\s+=\\s+.*");
    }

    private static void deleteSubGroup(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        String group = kit.unique("group");
        consume(kit, group, topic, 2);
        Mqadmin.run(kit, "updateSubGroup", "-c", CLUSTER, "-g", group, "-r", "3");
        Mqadmin.expect(Mqadmin.run(kit, "deleteSubGroup", "-c", CLUSTER, "-g", group, "-r", "true"),
            "delete subscription group \\[" + group + "\\] from broker \\[" + kit.broker + "\\] in cluster \\[" + CLUSTER + "\\] success\\.");
        Mqadmin.expectNot(Mqadmin.run(kit, "topicList"), "%RETRY%" + group);
        Mqadmin.expectNot(Mqadmin.tryRun(kit, "getConsumerConfig", "-g", group), "retryMaxTimes\\s+=\\s+3"); /* RocketMQ makes one up */
        Inbox again = new Inbox(); /* its offsets are gone too: it begins anew */
        start(kit, group, topic, again);
        again.expect(Kit.numbered(2));
    }

    private static void consumerProgress(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 2);
        String group = kit.unique("group");
        TopicCommands.send(kit, topic, 1, 5);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = start(kit, group, topic, inbox);
        inbox.await(5);
        Mqadmin.eventually(kit, progress(topic, 1, 5, 5), "consumerProgress", "-g", group);
        consumer.shutdown();
        TopicCommands.send(kit, topic, 1, 3);
        String output = Mqadmin.run(kit, "consumerProgress", "-g", group);
        Mqadmin.expect(output, progress(topic, 1, 8, 5));
        Mqadmin.expect(output, progress(topic, 0, 0, 0));
        Mqadmin.expect(output, "(Consume )?Diff Total: 3");
        Mqadmin.expect(Mqadmin.run(kit, "consumerProgress"), group + "\\s.*");
    }

    private static void consumerConnection(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        String group = kit.unique("group");
        DefaultMQPushConsumer consumer = kit.consumer(group, topic, "TagA || TagB");
        consumer.registerMessageListener(new Inbox());
        consumer.start();
        String client = "\\S+@\\S*\\s+127\\.0\\.0\\.1:\\d+\\s+JAVA\\s+V\\d_\\d+_\\d+.*";
        Mqadmin.eventually(kit, "(\\d+\\s+)?" + client, "consumerConnection", "-g", group);
        String output = Mqadmin.run(kit, "consumerConnection", "-g", group);
        Mqadmin.expect(output, ".*" + topic + "\\s+(SubExpression: )?TagA \\|\\| TagB.*");
        Mqadmin.expect(output, "ConsumeType: CONSUME_PASSIVELY");
        Mqadmin.expect(output, "MessageModel: CLUSTERING");
        Mqadmin.expect(output, "ConsumeFromWhere: CONSUME_FROM_FIRST_OFFSET");
        consumer.shutdown();
        Kit.eventually(true, () -> Mqadmin.tryRun(kit, "consumerConnection", "-g", group).contains("CODE: 206"), "nobody is connected");
    }

    /** What the broker asks the consumer. */
    private static void consumerStatus(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        String group = kit.unique("group");
        DefaultMQPushConsumer consumer = start(kit, group, topic, new Inbox());
        Mqadmin.eventually(kit, ".*" + topic + ".*", "consumerStatus", "-g", group, "-i", consumer.buildMQClientId());
        String output = Mqadmin.tryRun(kit, "consumerStatus", "-g", group, "-i", consumer.buildMQClientId());
        Mqadmin.expect(output, "PROP_CONSUME_TYPE\\s*:\\s*CONSUME_PASSIVELY");
    }

    /** A message is given to one consumer at once, which says what it made of it. */
    private static void consumeDirectly(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        String group = kit.unique("group");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = start(kit, group, topic, inbox);
        SendResult sent = Kit.send(kit.producer(), topic, "TagA", "again");
        inbox.await(1);
        List<String> command = new ArrayList<>(Arrays.asList("queryMsgById", "-i", sent.getOffsetMsgId(), "-g", group, "-d", consumer.buildMQClientId()));
        if (Kit.isVersion5()) {
            command.addAll(Arrays.asList("-t", topic));
        }
        Mqadmin.expect(Mqadmin.run(kit, command.toArray(new String[0])), ".*consumeResult=CR_SUCCESS.*");
        inbox.expect(Arrays.asList("again", "again"));
    }

    private static void producerConnection(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        DefaultMQProducer producer = kit.producer();
        Kit.send(producer, topic, "", "x");
        String[] command = {"producerConnection", "-g", producer.getProducerGroup(), "-t", topic};
        Mqadmin.eventually(kit, "(\\d+\\s+)?\\S+@\\S*\\s+127\\.0\\.0\\.1:\\d+\\s+JAVA\\s+V\\d_\\d+_\\d+.*", command);
    }

    /** A consumer that got so many messages of queue 0, said so, and went. */
    static void consume(Kit kit, String group, String topic, int count) throws Exception {
        TopicCommands.send(kit, topic, 0, count);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = start(kit, group, topic, inbox);
        inbox.await(count);
        Mqadmin.eventually(kit, progress(topic, 0, count, count), "consumerProgress", "-g", group);
        consumer.shutdown();
    }

    /** A group that had a member once: tools find its brokers by its retry topic. */
    static String known(Kit kit, String topic) throws Exception {
        String group = kit.unique("known");
        DefaultMQPushConsumer consumer = start(kit, group, topic, new Inbox());
        Mqadmin.eventually(kit, "%RETRY%" + group, "topicList");
        consumer.shutdown();
        return group;
    }

    private static void cloneGroupOffset(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        String group = kit.unique("group");
        String other = known(kit, topic);
        consume(kit, group, topic, 4);
        TopicCommands.send(kit, topic, 0, 2);
        Mqadmin.run(kit, "cloneGroupOffset", "-s", group, "-d", other, "-t", topic);
        Mqadmin.eventually(kit, progress(topic, 0, 6, 4), "consumerProgress", "-g", other);
    }

    private static void brokerConsumeStats(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        String group = kit.unique("group");
        consume(kit, group, topic, 4);
        TopicCommands.send(kit, topic, 0, 3);
        String output = Mqadmin.run(kit, "brokerConsumeStats", "-b", kit.broker, "-l", "0");
        Mqadmin.expect(output, topic + "\\s+" + group + "\\s+" + BROKER + "\\s+0\\s+7\\s+4\\s+3\\s.*");
        Mqadmin.expect(output, "Diff Total: [1-9]\\d*");
    }

    private static void statsAll(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        String group = kit.unique("group");
        consume(kit, group, topic, 4);
        TopicCommands.send(kit, topic, 0, 2);
        /* topic, group, accumulation, in and out per second, in and out in 24 hours */
        Mqadmin.eventually(kit, topic + "\\s+" + group + "\\s+2\\s+\\d+\\.\\d+\\s+\\d+\\.\\d+\\s+6\\s+4\\s*", "statsAll", "-t", topic);
    }

    private static void resetOffline(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 2);
        String group = kit.unique("group");
        consume(kit, group, topic, 3);
        Mqadmin.expect(Mqadmin.run(kit, "resetOffsetByTime", "-g", group, "-t", topic, "-s", "0"),
            BROKER + "\\s+0\\s+(0|3\\s+3\\s+0)");
        Mqadmin.expect(Mqadmin.run(kit, "consumerProgress", "-g", group), progress(topic, 0, 3, 0));
        Inbox again = new Inbox();
        start(kit, group, topic, again);
        again.expect(Kit.numbered(3));
    }

    /** Members that are connected get everything since that time again, and go on behind it. */
    private static void resetOnline(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 2);
        String group = kit.unique("group");
        TopicCommands.send(kit, topic, 0, 2);
        Thread.sleep(50); /* store times of the two halves differ */
        long middle = System.currentTimeMillis();
        Thread.sleep(50);
        TopicCommands.send(kit, topic, 1, 3);
        Inbox inbox = new Inbox();
        start(kit, group, topic, inbox);
        inbox.await(5);
        Mqadmin.eventually(kit, progress(topic, 1, 3, 3), "consumerProgress", "-g", group);
        Mqadmin.eventually(kit, progress(topic, 0, 2, 2), "consumerProgress", "-g", group);
        Mqadmin.expect(Mqadmin.run(kit, "resetOffsetByTime", "-g", group, "-t", topic, "-s", "" + middle),
            BROKER + "\\s+1\\s+(0|3\\s+3\\s+0)");
        List<String> expected = new ArrayList<>(Kit.numbered(2));
        expected.addAll(Kit.numbered(3));
        expected.addAll(Kit.numbered(3));
        inbox.expect(expected);
        Mqadmin.eventually(kit, progress(topic, 1, 3, 3), "consumerProgress", "-g", group);
    }
}
