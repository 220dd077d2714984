package interop;

import java.util.Map;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** The broker and the name server. */
final class BrokerCommands {
    private static final String BROKER = TopicCommands.BROKER;
    private static final String CLUSTER = TopicCommands.CLUSTER;

    private BrokerCommands() {
    }

    static void register(Map<String, Case> cases) {
        cases.put("clusterList", BrokerCommands::clusterList);
        cases.put("brokerStatus", BrokerCommands::brokerStatus);
        cases.put("clusterRT", BrokerCommands::clusterRt);
        cases.put("getBrokerConfig", BrokerCommands::getBrokerConfig);
        cases.put("getNamesrvConfig", BrokerCommands::getNamesrvConfig);
        cases.put("cleanExpiredCQ", BrokerCommands::cleanExpiredCq);
        cases.put("deleteExpiredCommitLog", BrokerCommands::deleteExpiredCommitLog);
        cases.put("updateKvConfig", BrokerCommands::updateKvConfig);
    }

    /** What others would notice. */
    static void registerAlone(Map<String, Case> cases) {
        cases.put("updateBrokerConfig", BrokerCommands::updateBrokerConfig);
        cases.put("wipeWritePerm", BrokerCommands::wipeWritePerm);
    }

    private static void clusterList(Kit kit) throws Exception {
        TopicCommands.send(kit, TopicCommands.create(kit, 1), 0, 1);
        kit.note("version", Mqadmin.part(Mqadmin.run(kit, "clusterList"),
            CLUSTER + "\\s+" + BROKER + "\\s+0\\s+" + kit.broker + "\\s+(Escrow(?= \\d)|V5_5_0)\\s.*"));
        Mqadmin.expect(Mqadmin.run(kit, "clusterList", "-m"), CLUSTER + "\\s+" + BROKER + "\\s+0\\s+0\\s+[1-9]\\d*\\s+\\d+");
    }

    private static void brokerStatus(Kit kit) throws Exception {
        TopicCommands.send(kit, TopicCommands.create(kit, 1), 0, 1);
        String output = Mqadmin.run(kit, "brokerStatus", "-b", kit.broker);
        kit.note("version", Mqadmin.part(output, "brokerVersionDesc\\s+: (Escrow(?= \\d)|V5_5_0).*"));
        Mqadmin.expect(output, "msgPutTotalTodayNow\\s+: [1-9]\\d*");
        Mqadmin.expect(output, "putTps\\s+:.*");
        Mqadmin.expect(output, "earliestMessageTimeStamp\\s+: \\d{13}");
    }

    private static void clusterRt(Kit kit) throws Exception {
        Mqadmin.runUntil(kit, CLUSTER + "\\s+" + BROKER + "\\s+\\d+\\.\\d+\\s+3\\s+0", "clusterRT", "-a", "3", "-s", "100", "-i", "1");
    }

    private static void getBrokerConfig(Kit kit) throws Exception {
        String output = Mqadmin.run(kit, "getBrokerConfig", "-b", kit.broker);
        Mqadmin.expect(output, "brokerName\\s+=\\s+" + BROKER);
        kit.note("own names", Mqadmin.has(output, "broker\\.name\\s+=\\s+" + BROKER) && Mqadmin.has(output, "flush\\s+=\\s+sync"));
        Mqadmin.expect(output, "listenPort\\s+=\\s+" + kit.broker.replaceAll(".*:", ""));
    }

    private static void updateBrokerConfig(Kit kit) throws Exception {
        Mqadmin.expect(Mqadmin.run(kit, "updateBrokerConfig", "-b", kit.broker, "-k", "autoCreateTopicEnable", "-v", "false"),
            "update broker config success, " + kit.broker);
        Mqadmin.expect(Mqadmin.run(kit, "getBrokerConfig", "-b", kit.broker), "(topic\\.auto\\.create|autoCreateTopicEnable)\\s+=\\s+false");
        Mqadmin.run(kit, "updateBrokerConfig", "-b", kit.broker, "-k", "autoCreateTopicEnable", "-v", "true");
        for (String key : new String[] {"rocketmqHome", "filterServerNums", "data.dir", "listen.host", "acl.file"}) {
            String output = Mqadmin.tryRun(kit, "updateBrokerConfig", "-b", kit.broker, "-k", key, "-v", "/tmp");
            kit.note(key, output.contains("CODE: 16") ? "refused" : output.contains("update broker config success") ? "taken" : output);
        }
    }

    private static void getNamesrvConfig(Kit kit) throws Exception {
        String output = Mqadmin.run(kit, "getNamesrvConfig");
        Mqadmin.expect(output, "=+" + kit.namesrv + "=+");
        Mqadmin.expect(output, "orderMessageEnable\\s+=\\s+true");
    }

    private static void updateKvConfig(Kit kit) throws Exception {
        String namespace = kit.unique("namespace");
        Mqadmin.expect(Mqadmin.run(kit, "updateKvConfig", "-s", namespace, "-k", "key", "-v", "value"),
            "create or update kv config to namespace success\\.");
        DefaultMQAdminExt admin = new DefaultMQAdminExt();
        admin.setNamesrvAddr(kit.namesrv);
        admin.setInstanceName(kit.unique("instance"));
        admin.start();
        kit.later(admin::shutdown);
        Kit.equal("value", admin.getKVConfig(namespace, "key"), "the value");
        Mqadmin.expect(Mqadmin.run(kit, "deleteKvConfig", "-s", namespace, "-k", "key"), "delete kv config from namespace success\\.");
    }

    private static void cleanExpiredCq(Kit kit) throws Exception {
        Mqadmin.expect(Mqadmin.run(kit, "cleanExpiredCQ", "-b", kit.broker), "success");
        Mqadmin.expect(Mqadmin.run(kit, "cleanExpiredCQ", "-c", CLUSTER), "success");
    }

    private static void deleteExpiredCommitLog(Kit kit) throws Exception {
        Mqadmin.expect(Mqadmin.run(kit, "deleteExpiredCommitLog", "-b", kit.broker), "success");
    }

    private static void wipeWritePerm(Kit kit) throws Exception {
        String topic = TopicCommands.create(kit, 1);
        Mqadmin.expect(Mqadmin.run(kit, "wipeWritePerm", "-b", BROKER),
            "wipe write perm of broker\\[" + BROKER + "\\] in name server\\[" + kit.namesrv + "\\] OK, [1-9]\\d*");
        Mqadmin.expect(Mqadmin.run(kit, "topicRoute", "-t", topic), ".*\"perm\":4,?.*");
        Mqadmin.expect(Mqadmin.run(kit, "addWritePerm", "-b", BROKER),
            "add write perm of broker\\[" + BROKER + "\\] in name server\\[" + kit.namesrv + "\\] OK, [1-9]\\d*");
        Mqadmin.expect(Mqadmin.run(kit, "topicRoute", "-t", topic), ".*\"perm\":6,?.*");
    }
}
