/* What context.c and session.c share. */
#ifndef CORE_TLS_TLS_PRIVATE_H
#define CORE_TLS_TLS_PRIVATE_H

#include "core/tls/tls.h"

#include <openssl/ssl.h>

struct tls_context {
    SSL_CTX *ssl;
    enum tls_check check;
    bool is_server;
};

/* context.c: OpenSSL's last error in its words, "unknown protocol"; forgets all of them. */
const char *tls_reason(void);

#endif
