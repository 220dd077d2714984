#include "core/io_uv/tls_files.h"

#include "core/base/buf.h"
#include "core/io_uv/small_file.h"

#include <string.h>

#define KEY_ROOM ((size_t)32 * 1024) /* more than any key takes */

static bool is_given(const char *text)
{
    return text != NULL && text[0] != '\0';
}

/* Whatever is wrong with a file that was named: the configuration is. */
static int config_error(int rc, struct err_ctx *err)
{
    if (rc == ESCROW_ENOMEM) {
        return rc;
    }
    if (err != NULL) {
        err->code = ESCROW_ECONFIG;
    }
    return ESCROW_ECONFIG;
}

/* The text of a file, empty when no path is given. */
static int read_text(const char *path, bool is_key, struct buf *text, struct err_ctx *err)
{
    struct file_stamp stamp = {.size = 0};
    int rc;

    buf_init(text, 0);
    if (!is_given(path)) {
        return 0;
    }
    if (is_key && buf_reserve(text, KEY_ROOM) == NULL) { /* growing would leave copies behind */
        return err_set(err, ESCROW_ENOMEM, "%s: out of memory", path);
    }
    rc = small_file_read(path, TLS_PEM_MAX, true, &stamp, text, err);
    if (rc < 0) {
        return config_error(rc, err);
    }
    if (is_key && small_file_is_open_to_others(&stamp)) {
        return err_set(err, ESCROW_ECONFIG,
                       "%s: mode %04o: others can get at the private key; chmod 600", path,
                       stamp.mode);
    }
    return 0;
}

int tls_files_load(const struct tls_files *files, bool is_server, enum tls_check check,
                   struct tls_context **out, struct err_ctx *err)
{
    struct tls_config config = {.is_server = is_server, .check = check};
    struct buf certificate, key, ca;
    int rc;

    *out = NULL;
    buf_init(&key, 0);
    buf_init(&ca, 0);
    rc = read_text(files->certificate, false, &certificate, err);
    if (rc == 0) {
        rc = read_text(files->key, true, &key, err);
    }
    if (rc == 0) {
        rc = read_text(files->ca, false, &ca, err);
    }
    if (rc == 0 && is_given(files->ca) && ca.len == 0) {
        rc = err_set(err, ESCROW_ECONFIG, "%s: empty", files->ca); /* not the system's instead */
    }
    if (rc == 0) {
        config.certificate = buf_slice(&certificate);
        config.key = buf_slice(&key);
        config.ca = buf_slice(&ca);
        rc = tls_context_new(&config, out, err);
        if (rc != 0) {
            (void)err_prefix(err, "TLS (%s%s%s)",
                             is_given(files->certificate) ? files->certificate : "",
                             is_given(files->certificate) && is_given(files->ca) ? ", " : "",
                             is_given(files->ca) ? files->ca : "");
        }
    }
    if (key.cap > 0) {
        explicit_bzero(key.ptr, key.cap);
    }
    buf_fini(&key);
    buf_fini(&certificate);
    buf_fini(&ca);
    return rc;
}

int tls_files_client(const char *word, const struct tls_files *files, const char *name,
                     struct tcp_tls_policy *policy, struct err_ctx *err)
{
    enum tls_check check = TLS_CHECK_REQUIRED;

    *policy = (struct tcp_tls_policy){.mode = TCP_TLS_DISABLED, .name = name};
    if (!is_given(word) || strcmp(word, "off") == 0) {
        if (is_given(files->certificate) || is_given(files->key) || is_given(files->ca) ||
            is_given(name)) {
            return err_set(err, ESCROW_ECONFIG,
                           "files or a name are given for TLS, and TLS is off: turn it on, or "
                           "leave them out");
        }
        return 0;
    }
    if (strcmp(word, "insecure") == 0) {
        check = TLS_CHECK_NONE;
    } else if (strcmp(word, "on") != 0) {
        return err_set(err, ESCROW_ECONFIG, "tls = '%.40s': expected off, on or insecure", word);
    }
    policy->mode = TCP_TLS_ENFORCING;
    return tls_files_load(files, false, check, &policy->context, err);
}
