/*
 * Folders of tests: below TMPDIR, which tests/run.sh removes as a whole, or below /tmp. Any thread.
 */
#ifndef TESTS_LIB_TEMP_FOLDER_H
#define TESTS_LIB_TEMP_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEMP_FOLDER_MAX 80 /* leaves room for a unix socket inside */

/* A new folder, "<TMPDIR>/escrow-<name>-XXXXXX"; false (errno) when there can be none. */
static inline bool temp_folder_make(char path[TEMP_FOLDER_MAX], const char *name)
{
    const char *tmp = getenv("TMPDIR");
    int len =
        snprintf(path, TEMP_FOLDER_MAX, "%s/escrow-%s-XXXXXX", tmp == NULL ? "/tmp" : tmp, name);

    return len < TEMP_FOLDER_MAX && mkdtemp(path) != NULL;
}

/* With everything in it. false: something of it is left. */
static inline bool temp_folder_remove(const char *path)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        (void)execlp("rm", "rm", "-rf", path, (char *)NULL);
        _exit(127);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

#endif
