/*
 * MD5 (RFC 1321): for placing things as others place them, RocketMQ's consistent hashing for one.
 * It protects nothing. Any thread.
 */
#ifndef CORE_BASE_MD5_H
#define CORE_BASE_MD5_H

#include "core/base/slice.h"

#include <stdint.h>

#define MD5_SIZE 16

void md5(struct slice data, uint8_t out[MD5_SIZE]);

#endif
