#include "tests/lib/pg_fixture.h"

#include "outbox/pg/migrate.h"
#include "outbox/pg/schema.h"
#include "tests/lib/temp_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCRIPT ESCROW_SOURCE_DIR "/tests/lib/postgres.sh"
/* Not Check's: the server is started before Check runs. A test that exits is a failed one. */
#define NEED_SAYING(expr, ...)                                                                     \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            (void)fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #expr);                       \
            (void)fprintf(stderr, __VA_ARGS__);                                                    \
            (void)fprintf(stderr, "\n");                                                           \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)
#define NEED(expr) NEED_SAYING(expr, "%s", strerror(errno))

#define SQL_MAX  8192
#define ARGS_MAX 16
#define FILE_MAX 65536

/* Run postgres.sh; its output is not wanted, its complaints are. */
static void script(const char *action, const char *folder, const char *const *settings)
{
    const char *args[ARGS_MAX] = {"bash", SCRIPT, action, folder};
    size_t count = 4;
    int status = 0;
    pid_t pid;

    for (size_t i = 0; settings != NULL && settings[i] != NULL; i++) {
        NEED(count < ARGS_MAX - 1);
        args[count++] = settings[i];
    }
    pid = fork();
    NEED(pid >= 0);
    if (pid == 0) {
        int null_fd = open("/dev/null", O_RDWR);
        (void)dup2(null_fd, STDIN_FILENO);
        (void)dup2(null_fd, STDOUT_FILENO);
        (void)execvp("bash", (char *const *)(void *)args);
        _exit(127);
    }
    NEED(waitpid(pid, &status, 0) == pid);
    NEED_SAYING(WIFEXITED(status) && WEXITSTATUS(status) == 0, "postgres.sh %s failed", action);
}

/* The keeper: waits until the last writer of the pipe is gone. */
static void keep(const char *folder, int read_fd)
{
    char command[400];

    (void)setsid(); /* out of reach of a terminal's signals */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)dup2(read_fd, STDIN_FILENO);
    for (int fd = 3; fd < 256; fd++) {
        (void)close(fd);
    }
    (void)snprintf(command, sizeof command,
                   "cat >/dev/null; bash '%s' kill '%s' >/dev/null 2>&1; rm -rf '%s'", SCRIPT,
                   folder, folder);
    (void)execlp("bash", "bash", "-c", command, (char *)NULL);
    _exit(127);
}

void pg_fixture_start(struct pg_fixture *f, const char *const *settings)
{
    int ends[2];
    PGconn *pg;

    *f = (struct pg_fixture){.pipe_fd = -1};
    _Static_assert(sizeof f->folder == TEMP_FOLDER_MAX, "the folder's name has to fit");
    NEED(temp_folder_make(f->folder, "pg"));
    NEED(chmod(f->folder, 0755) == 0);
    NEED(pipe2(ends, O_CLOEXEC) == 0);
    f->keeper = fork();
    NEED(f->keeper >= 0);
    if (f->keeper == 0) {
        (void)close(ends[1]);
        keep(f->folder, ends[0]);
    }
    (void)close(ends[0]);
    f->pipe_fd = ends[1];
    (void)snprintf(f->conninfo, sizeof f->conninfo, "host=%s user=escrow dbname=postgres",
                   f->folder);
    script("start", f->folder, settings);
    /*
     * A crash here is one of the server, not of the machine: what it has written is there
     * afterwards.
     */
    pg = pg_test_connect(f->conninfo);
    (void)pg_test_sql(pg, "ALTER SYSTEM SET fsync = off");
    (void)pg_test_sql(pg, "SELECT pg_reload_conf()");
    PQfinish(pg);
}

void pg_fixture_stop(struct pg_fixture *f)
{
    int status;

    (void)close(f->pipe_fd);
    NEED(waitpid(f->keeper, &status, 0) == f->keeper);
    NEED(access(f->folder, F_OK) != 0);
}

void pg_fixture_crash(struct pg_fixture *f)
{
    script("kill", f->folder, NULL);
    script("start", f->folder, NULL);
}

void pg_fixture_shutdown(struct pg_fixture *f)
{
    script("stop", f->folder, NULL);
}

void pg_fixture_boot(struct pg_fixture *f)
{
    script("start", f->folder, NULL);
}

void pg_fixture_restart(struct pg_fixture *f)
{
    pg_fixture_shutdown(f);
    pg_fixture_boot(f);
}

void pg_fixture_database(struct pg_fixture *f, const char *name, char *out, size_t size)
{
    PGconn *pg = pg_test_connect(f->conninfo);

    (void)pg_test_sql(pg, "DROP DATABASE IF EXISTS %s", name);
    (void)pg_test_sql(pg, "CREATE DATABASE %s", name);
    PQfinish(pg);
    (void)snprintf(out, size, "host=%s user=escrow dbname=%s", f->folder, name);
    pg_fixture_migrate(out);
}

void pg_fixture_migrate(const char *conninfo)
{
    struct migrate_result result;
    struct err_ctx err = {.code = 0};

    NEED_SAYING(migrate_run(conninfo, SCHEMA_VERSION, &result, &err) == 0, "%s", err.text);
}

static size_t read_file(const char *path, char *out, size_t size)
{
    FILE *file = fopen(path, "re");
    size_t len;

    NEED_SAYING(file != NULL, "%s: %s", path, strerror(errno));
    len = fread(out, 1, size - 1, file);
    NEED(ferror(file) == 0);
    NEED(len < size - 1);
    out[len] = '\0';
    (void)fclose(file); /* only read */
    return len;
}

void pg_fixture_roles(const char *conninfo)
{
    static char sql[FILE_MAX];
    PGconn *pg = pg_test_connect(conninfo);
    PGresult *res;

    (void)read_file(ESCROW_SOURCE_DIR "/sql/roles.sql", sql, sizeof sql);
    res = PQexec(pg, sql);
    NEED_SAYING(PQresultStatus(res) == PGRES_COMMAND_OK, "%s", PQerrorMessage(pg));
    PQclear(res);
    PQfinish(pg);
}

void pg_fixture_hba(struct pg_fixture *f, const char *line)
{
    static char text[FILE_MAX];
    char path[128];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/data/pg_hba.conf", f->folder);
    (void)read_file(path, text, sizeof text);
    file = fopen(path, "we");
    NEED(file != NULL);
    NEED(fprintf(file, "%s\n%s", line, text) > 0);
    NEED(fclose(file) == 0);
}

static void copy_folder(const char *from, const char *to)
{
    int status = 0;
    pid_t pid = fork();

    NEED(pid >= 0);
    if (pid == 0) {
        (void)execlp("cp", "cp", "-a", from, to, (char *)NULL);
        _exit(127);
    }
    NEED(waitpid(pid, &status, 0) == pid);
    NEED(WIFEXITED(status));
    NEED(WEXITSTATUS(status) == 0);
}

void pg_fixture_backup(struct pg_fixture *f)
{
    char data[128];
    char copy[128];

    (void)snprintf(data, sizeof data, "%s/data", f->folder);
    (void)snprintf(copy, sizeof copy, "%s/backup", f->folder);
    pg_fixture_shutdown(f);
    copy_folder(data, copy);
    pg_fixture_boot(f);
}

void pg_fixture_restore(struct pg_fixture *f)
{
    char data[128];
    char copy[128];
    char old[128];

    (void)snprintf(data, sizeof data, "%s/data", f->folder);
    (void)snprintf(copy, sizeof copy, "%s/backup", f->folder);
    (void)snprintf(old, sizeof old, "%s/old%ld", f->folder, (long)getpid());
    pg_fixture_shutdown(f);
    NEED(rename(data, old) == 0);
    NEED(rename(copy, data) == 0);
    pg_fixture_boot(f);
}

static void on_notice(void *arg, const char *message)
{
    (void)arg;
    (void)message;
}

PGconn *pg_test_connect(const char *conninfo)
{
    PGconn *pg = PQconnectdb(conninfo);

    NEED_SAYING(PQstatus(pg) == CONNECTION_OK, "%s", PQerrorMessage(pg));
    (void)PQsetNoticeProcessor(pg, on_notice, NULL); /* returns the one before */
    return pg;
}

static ESCROW_PRINTF(2, 0) PGresult *run(PGconn *pg, const char *fmt, va_list args)
{
    char sql[SQL_MAX];
    int len = vsnprintf(sql, sizeof sql, fmt, args);

    NEED(len < SQL_MAX);
    return PQexec(pg, sql);
}

static char answer[SQL_MAX];

const char *pg_test_sql(PGconn *pg, const char *fmt, ...)
{
    PGresult *res;
    va_list args;

    va_start(args, fmt);
    res = run(pg, fmt, args);
    va_end(args);
    NEED_SAYING(PQresultStatus(res) == PGRES_COMMAND_OK || PQresultStatus(res) == PGRES_TUPLES_OK,
                "%s: %s", fmt, PQerrorMessage(pg));
    answer[0] = '\0';
    if (PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) > 0) {
        (void)snprintf(answer, sizeof answer, "%s", PQgetvalue(res, 0, 0));
    }
    PQclear(res);
    return answer;
}

const char *pg_test_fails(PGconn *pg, const char *sqlstate, const char *fmt, ...)
{
    PGresult *res;
    va_list args;

    va_start(args, fmt);
    res = run(pg, fmt, args);
    va_end(args);
    NEED_SAYING(PQresultStatus(res) == PGRES_FATAL_ERROR, "%s: did not fail", fmt);
    NEED_SAYING(strcmp(PQresultErrorField(res, PG_DIAG_SQLSTATE), sqlstate) == 0, "%s: %s", fmt,
                PQerrorMessage(pg));
    (void)snprintf(answer, sizeof answer, "%s", PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY));
    PQclear(res);
    return answer;
}
