package interop;

import java.util.Collections;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** What mqadmin's classes can ask and no command of it does: tools that are built on them, such as the dashboard. */
final class ToolCalls {
    private static final String BROKER = TopicCommands.BROKER;

    private ToolCalls() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("getConsumeStatus", ToolCalls::getConsumeStatus);
        cases.put("queryConsumeTimeSpan", ToolCalls::queryConsumeTimeSpan);
        cases.put("cloneGroupOffset-call", ToolCalls::cloneGroupOffset);
        if (Kit.isVersion5()) {
            cases.put("querySubscription", ToolCalls::querySubscription);
        }
    }

    private static DefaultMQAdminExt admin(Kit kit) throws Exception {
        DefaultMQAdminExt admin = new DefaultMQAdminExt();
        admin.setNamesrvAddr(kit.namesrv);
        admin.setInstanceName(kit.unique("instance"));
        admin.start();
        kit.later(admin::shutdown);
        return admin;
    }

    /** A member that got the messages of queue 0, and is still there. */
    private static DefaultMQPushConsumer consume(Kit kit, String group, String topic, int count) throws Exception {
        TopicCommands.send(kit, topic, 0, count);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = kit.consumer(group, topic, "*");
        consumer.setPersistConsumerOffsetInterval(500);
        consumer.registerMessageListener(inbox);
        consumer.start();
        inbox.await(count);
        return consumer;
    }

    /** The broker asks the member, and passes on what it says. */
    private static void getConsumeStatus(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        String group = kit.unique("group");
        DefaultMQPushConsumer consumer = consume(kit, group, topic, 3);
        DefaultMQAdminExt admin = admin(kit);
        Map<MessageQueue, Long> expected = Collections.singletonMap(new MessageQueue(topic, BROKER, 0), 3L);
        Kit.eventually(Collections.singletonMap(consumer.buildMQClientId(), expected), () -> admin.getConsumeStatus(topic, group, ""),
            "offsets of all members");
        Kit.equal(Collections.singletonMap(consumer.buildMQClientId(), expected),
            admin.getConsumeStatus(topic, group, consumer.buildMQClientId()), "offsets of one member");
        Kit.equal(Collections.emptyMap(), admin.getConsumeStatus(topic, group, "nobody"), "offsets of a member that is not there");
    }

    private static void queryConsumeTimeSpan(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        String group = kit.unique("group");
        DefaultMQAdminExt admin = admin(kit);
        long begin = System.currentTimeMillis();
        GroupCommands.consume(kit, group, topic, 2);
        TopicCommands.send(kit, topic, 0, 1);
        var span = admin.queryConsumeTimeSpan(topic, group).get(0);
        Kit.equal(new MessageQueue(topic, BROKER, 0), span.getMessageQueue(), "the queue");
        Kit.check(span.getMinTimeStamp() >= begin - 1000, "the first message is older than it can be");
        Kit.check(span.getConsumeTimeStamp() >= span.getMinTimeStamp(), "consumed before the first");
        Kit.check(span.getMaxTimeStamp() >= span.getConsumeTimeStamp(), "consumed after the last");
        Kit.check(span.getDelayTime() >= 0 && span.getDelayTime() < 600_000, "the delay is " + span.getDelayTime());
    }

    private static void cloneGroupOffset(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        String group = kit.unique("group");
        String other = GroupCommands.known(kit, topic);
        DefaultMQAdminExt admin = admin(kit);
        GroupCommands.consume(kit, group, topic, 4);
        admin.cloneGroupOffset(group, other, topic, true);
        long offset = admin.examineConsumeStats(other).getOffsetTable().get(new MessageQueue(topic, BROKER, 0)).getConsumerOffset();
        Kit.equal(4L, offset, "the other group's offset");
    }

    private static void querySubscription(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        String group = kit.unique("group");
        consume(kit, group, topic, 1);
        DefaultMQAdminExt admin = admin(kit);
        Object found = DefaultMQAdminExt.class.getMethod("querySubscription", String.class, String.class).invoke(admin, group, topic);
        Kit.equal("*", found.getClass().getMethod("getSubString").invoke(found), "the expression");
    }
}
