package interop;

import java.util.Map;

/** Commands at the server that wants access keys, signed because there is a tools.yml with keys. */
final class AccessCommands {
    private AccessCommands() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("access-keys", AccessCommands::signed);
        cases.put("access-keys-refused", AccessCommands::refused);
    }

    private static void signed(Kit kit) throws Exception {
        Kit owner = kit.as("owner");
        String topic = TopicCommands.create(owner, 2);
        String group = kit.unique("group");
        TopicCommands.send(owner, topic, 1, 3);
        Mqadmin.eventually(owner, "\\S+\\s+1\\s+0\\s+3\\s+.*", "topicStatus", "-t", topic);
        Mqadmin.run(owner, "updateSubGroup", "-b", owner.broker, "-g", group, "-r", "3");
        owner.collect(group, topic, "*").expect(Kit.numbered(3));
        Mqadmin.eventually(owner, topic + "\\s+\\S+\\s+1\\s+3\\s+3\\s+0\\s.*", "consumerProgress", "-g", group);
        Mqadmin.expect(Mqadmin.run(owner, "consumerConnection", "-g", group), ".*" + topic + ".*");
        Mqadmin.expect(Mqadmin.run(owner, "clusterList"), ".*" + owner.broker + ".*");
        Mqadmin.run(owner, "deleteTopic", "-c", "DefaultCluster", "-t", topic);
        Mqadmin.expectNot(Mqadmin.run(owner, "topicList"), topic);
    }

    /** What each is told; none of the topics is there afterwards. */
    private static void refused(Kit kit) throws Exception {
        Kit owner = kit.as("owner");
        Kit[] others = {kit.as("service"), kit.as("owner", "another"), kit.as("unknown"), kit.as(null)};
        String[] why = {"no administrator", "a wrong secret", "an unknown access key", "no signature"};
        for (int i = 0; i < others.length; i++) {
            String topic = kit.unique("topic");
            String output = Mqadmin.tryRun(others[i], "updateTopic", "-b", owner.broker, "-t", topic, "-r", "1", "-w", "1");
            Kit.check(output.contains("CODE: 16"), why[i] + " is not refused: " + output);
        }
        Mqadmin.expectNot(Mqadmin.run(owner, "topicList"), "access-keys-refused-topic-.*");
    }
}
