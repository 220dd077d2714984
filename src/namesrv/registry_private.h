/* What registry.c (who is there) and registry_read.c (what clients are told) share. */
#ifndef SRC_NAMESRV_REGISTRY_PRIVATE_H
#define SRC_NAMESRV_REGISTRY_PRIVATE_H

#include "src/namesrv/registry.h"

struct registry_addr {
    char addr[REGISTRY_ADDR_MAX + 1];
    int64_t broker_id;
    int64_t seen_ms;
    int64_t timeout_ms;
    int64_t state_version; /* of its last registration; grows with every election of a master */
    uint64_t conn;         /* it registered by */
    uint64_t asked; /* another one by which it asked later whether it is registered; 0: none */
};

struct registry_broker {
    char name[REGISTRY_NAME_MAX + 1];
    char cluster[REGISTRY_NAME_MAX + 1];
    struct registry_addr addrs[REGISTRY_ADDRS_MAX]; /* ordered by broker_id */
    size_t addr_count;
    struct data_version version;
    bool has_version;
    bool is_wiped; /* its routes have no write permission */
};

struct registry_queues {
    struct registry_broker *broker;
    int32_t read_queue_count;
    int32_t write_queue_count;
    int32_t perm;
    int32_t sys_flag;
};

struct registry_topic {
    struct registry_queues *queues; /* one per broker that serves it */
    size_t count;
};

#endif
