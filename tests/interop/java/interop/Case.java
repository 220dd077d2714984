package interop;

/** One thing to try; returns when it was as it should be. */
interface Case {
    void run(Kit kit) throws Exception;
}
