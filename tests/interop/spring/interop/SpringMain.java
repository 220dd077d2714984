package interop;

import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The cases of rocketmq-spring-boot-starter.
 * usage: SpringMain list
 *        SpringMain run NAMESRV BROKER CASE...
 *        SpringMain silent-producer NAMESRV GROUP TOPIC    (the process that TemplateTransactions kills)
 *        SpringMain member|broadcast-member NAMESRV GROUP TOPIC    (the processes that ListenerMembers kills)
 */
public final class SpringMain {
    private SpringMain() {
    }

    private static Map<String, Case> cases() {
        Map<String, Case> cases = new LinkedHashMap<>();
        TemplateSending.register(cases);
        TemplateTransactions.register(cases);
        ListenerConsuming.register(cases);
        ListenerMembers.register(cases);
        SpringAccess.register(cases);
        return cases;
    }

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "silent-producer":
                TemplateTransactions.silentProducer(args[1], args[2], args[3]);
                break;
            case "member":
                ListenerMembers.member(args[1], args[2], args[3], Listeners.Plain.class);
                break;
            case "broadcast-member":
                ListenerMembers.member(args[1], args[2], args[3], Listeners.Broadcast.class);
                break;
            default:
                Runner.main(cases(), args);
        }
    }
}
