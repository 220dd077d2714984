package interop;

import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** A process of its own with the same classes: an instance that can be killed. It is, at the latest when it is closed. */
final class Child implements AutoCloseable {
    private final Process process;
    private final List<String> lines = new ArrayList<>();

    Child(Class<?> main, String... args) throws IOException {
        List<String> command = new ArrayList<>(Arrays.asList(
            System.getProperty("java.home") + File.separator + "bin" + File.separator + "java", "-Xmx128m", "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1", "-Duser.home=" + System.getProperty("user.home"), "-cp",
            System.getProperty("java.class.path"), main.getName()));
        command.addAll(Arrays.asList(args));
        process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        Thread reader = new Thread(this::read);
        reader.setDaemon(true);
        reader.start();
    }

    private void read() {
        try (BufferedReader output = new BufferedReader(new InputStreamReader(process.getInputStream()))) {
            for (String line = output.readLine(); line != null; line = output.readLine()) {
                synchronized (lines) {
                    lines.add(line);
                }
            }
        } catch (IOException e) {
            return; /* it was killed */
        }
    }

    /** What it printed in lines "NAME REST": the rests, in order. */
    List<String> said(String name) {
        List<String> found = new ArrayList<>();
        synchronized (lines) {
            lines.stream().filter(l -> l.startsWith(name + " ")).forEach(l -> found.add(l.substring(name.length() + 1)));
        }
        return found;
    }

    /** Waits until it has printed such a line. */
    String await(String name) throws Exception {
        Kit.eventually(true, () -> !said(name).isEmpty() || !process.isAlive(), "the other process says '" + name + "'");
        Kit.check(!said(name).isEmpty(), "the other process ended and did not say '" + name + "'");
        return said(name).get(0);
    }

    /** Without a word to the broker: the connection just breaks. */
    void kill() throws InterruptedException {
        process.destroyForcibly().waitFor();
    }

    @Override
    public void close() throws InterruptedException {
        kill();
    }
}
