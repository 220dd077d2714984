package interop;

import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The cases of Spring Cloud Stream with the RocketMQ binder.
 * usage: CloudMain list
 *        CloudMain run NAMESRV BROKER CASE...
 *        CloudMain silent-producer NAMESRV GROUP TOPIC    (the process that StreamTransactions kills)
 *        CloudMain member NAMESRV GROUP TOPIC             (the process that StreamMembers kills)
 */
public final class CloudMain {
    private CloudMain() {
    }

    private static Map<String, Case> cases() {
        Map<String, Case> cases = new LinkedHashMap<>();
        StreamSending.register(cases);
        StreamTransactions.register(cases);
        StreamConsuming.register(cases);
        StreamMembers.register(cases);
        StreamAccess.register(cases);
        return cases;
    }

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "silent-producer":
                StreamTransactions.silentProducer(args[1], args[2], args[3]);
                break;
            case "member":
                StreamMembers.member(args[1], args[2], args[3]);
                break;
            default:
                Runner.main(cases(), args);
        }
    }
}
