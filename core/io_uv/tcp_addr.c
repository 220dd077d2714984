#include "core/io_uv/tcp_private.h"
#include "escrow/errors.h"

#include <arpa/inet.h>
#include <stdio.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

char *tcp_addr_format(const struct tcp_addr *addr, char *dst, size_t size)
{
    char ip[INET6_ADDRSTRLEN];
    int family = addr->ip_len == 4 ? AF_INET : AF_INET6;

    CHECK(size >= 2);
    if (addr->ip_len == 0 || inet_ntop(family, addr->ip, ip, sizeof ip) == NULL) {
        (void)snprintf(dst, size, "?"); /* fits */
    } else {
        (void)snprintf(dst, size, family == AF_INET ? "%s:%u" : "[%s]:%u", ip,
                       (unsigned)addr->port); /* cut when size is below TCP_ADDR_TEXT_MAX */
    }
    return dst;
}

int tcp_addr_parse(const char *host, uint16_t port, struct tcp_addr *addr)
{
    struct tcp_addr parsed = {.port = port};

    if (inet_pton(AF_INET, host, parsed.ip) == 1) {
        parsed.ip_len = 4;
    } else if (inet_pton(AF_INET6, host, parsed.ip) == 1) {
        parsed.ip_len = 16;
    } else {
        return ESCROW_EINVAL;
    }
    *addr = parsed;
    return 0;
}

void tcp_addr_from_sockaddr(const struct sockaddr_storage *ss, struct tcp_addr *addr)
{
    *addr = (struct tcp_addr){0};
    if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)ss;

        memcpy(addr->ip, &in->sin_addr, 4);
        addr->port = ntohs(in->sin_port);
        addr->ip_len = 4;
    } else if (ss->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)ss;
        const uint8_t *ip = in6->sin6_addr.s6_addr;

        addr->port = ntohs(in6->sin6_port);
        if (memcmp(ip, mapped_prefix, sizeof mapped_prefix) == 0) {
            memcpy(addr->ip, ip + sizeof mapped_prefix, 4);
            addr->ip_len = 4;
        } else {
            memcpy(addr->ip, ip, 16);
            addr->ip_len = 16;
        }
    }
}

socklen_t tcp_addr_to_sockaddr(const struct tcp_addr *addr, struct sockaddr_storage *ss)
{
    *ss = (struct sockaddr_storage){0};
    CHECK(addr->ip_len == 4 || addr->ip_len == 16);
    if (addr->ip_len == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)(void *)ss;

        in->sin_family = AF_INET;
        in->sin_port = htons(addr->port);
        memcpy(&in->sin_addr, addr->ip, 4);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)ss;

    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(addr->port);
    memcpy(&in6->sin6_addr, addr->ip, 16);
    return sizeof *in6;
}
