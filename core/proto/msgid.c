#include "core/proto/msgid.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "escrow/errors.h"

#define BYTES_MAX     (MSGID_TEXT_MAX / 2)
#define UNIQ_KEY_MORE 12 /* pid 2, salt 4, time 4, counter 2 */
#define MS_PER_DAY    INT64_C(86400000)

static size_t hex_encode(const uint8_t *bytes, size_t len, char *text)
{
    static const char digits[] = "0123456789ABCDEF";

    CHECK(len <= BYTES_MAX);
    for (size_t i = 0; i < len; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * len] = '\0';
    return 2 * len;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return -1;
}

/* Bytes of a text of 32 or 56 hex digits; 0 when it is none. */
static size_t hex_decode(struct slice text, uint8_t bytes[BYTES_MAX])
{
    if (text.len != 32 && text.len != 56) {
        return 0;
    }
    for (size_t i = 0; i < text.len / 2; i++) {
        int high = hex_digit(text.ptr[2 * i]);
        int low = hex_digit(text.ptr[2 * i + 1]);
        if (high < 0 || low < 0) {
            return 0;
        }
        bytes[i] = (uint8_t)(high * 16 + low);
    }
    return text.len / 2;
}

size_t msgid_encode(const struct record_host *host, int64_t offset, char text[MSGID_TEXT_MAX + 1])
{
    uint8_t bytes[BYTES_MAX];
    size_t ip_len = host->ip_len;

    CHECK(ip_len == 4 || ip_len == 16);
    memcpy(bytes, host->ip, ip_len);
    put_be32(bytes + ip_len, host->port);
    put_be64(bytes + ip_len + 4, (uint64_t)offset);
    return hex_encode(bytes, ip_len + 12, text);
}

int msgid_decode(struct slice text, struct record_host *host, int64_t *offset)
{
    uint8_t bytes[BYTES_MAX];
    size_t len = hex_decode(text, bytes);
    size_t ip_len = len == BYTES_MAX ? 16 : 4;
    uint32_t port;
    uint64_t at;

    if (len == 0) {
        return ESCROW_EINVAL;
    }
    port = get_be32(bytes + ip_len);
    at = get_be64(bytes + ip_len + 4);
    if (port > UINT16_MAX || at > INT64_MAX) {
        return ESCROW_EINVAL;
    }
    *host = (struct record_host){.ip_len = (uint8_t)ip_len, .port = (uint16_t)port};
    memcpy(host->ip, bytes, ip_len);
    *offset = (int64_t)at;
    return 0;
}

/* ---- UNIQ_KEY ---- */

/*
 * Days since 1970-01-01 of the first of a month (Hinnant, "chrono-compatible low-level date
 * algorithms").
 */
static int64_t days_from_month(int64_t year, int month)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return era * 146097 + day_of_era - 719468;
}

static void month_of_days(int64_t days, int64_t *year, int *month)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t day_of_era = z - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int shifted = (int)((5 * day_of_year + 2) / 153);

    *month = shifted < 10 ? shifted + 3 : shifted - 9;
    *year = year_of_era + era * 400 + (*month <= 2 ? 1 : 0);
}

static void set_month(struct uniq_key_gen *gen, int64_t now_ms)
{
    int64_t zone_ms = (int64_t)gen->utc_offset_s * 1000;
    int64_t local_ms = now_ms + zone_ms;
    int64_t days = (local_ms >= 0 ? local_ms : local_ms - (MS_PER_DAY - 1)) / MS_PER_DAY;
    int64_t year;
    int month;

    month_of_days(days, &year, &month);
    gen->month_begin_ms = days_from_month(year, month) * MS_PER_DAY - zone_ms;
    gen->month_end_ms =
        days_from_month(month == 12 ? year + 1 : year, month == 12 ? 1 : month + 1) * MS_PER_DAY -
        zone_ms;
    CHECK(gen->month_begin_ms <= now_ms);
    CHECK(now_ms < gen->month_end_ms);
}

void uniq_key_init(struct uniq_key_gen *gen, const uint8_t *ip, uint8_t ip_len, uint16_t pid,
                   uint32_t salt)
{
    CHECK(ip_len == 4 || ip_len == 16);
    *gen = (struct uniq_key_gen){.ip_len = ip_len, .pid = pid, .salt = salt, .last_ms = INT64_MIN};
    memcpy(gen->ip, ip, ip_len);
}

/* Move (last_ms, counter) on: never back, and never the same pair twice. */
static void advance(struct uniq_key_gen *gen, int64_t now_ms)
{
    if (now_ms > gen->last_ms) {
        gen->last_ms = now_ms;
        gen->counter = 0;
        return;
    }
    gen->counter++;
    if (gen->counter == 0) {
        gen->last_ms++; /* 65536 keys in this millisecond */
    }
}

size_t uniq_key_next(struct uniq_key_gen *gen, int64_t now_ms, char text[MSGID_TEXT_MAX + 1])
{
    uint8_t bytes[BYTES_MAX];
    uint8_t *at = bytes + gen->ip_len;

    CHECK(gen->ip_len == 4 || gen->ip_len == 16);
    advance(gen, now_ms);
    if (gen->last_ms >= gen->month_end_ms || gen->last_ms < gen->month_begin_ms) {
        set_month(gen, gen->last_ms);
    }
    memcpy(bytes, gen->ip, gen->ip_len);
    put_be16(at, gen->pid);
    put_be32(at + 2, gen->salt);
    put_be32(at + 6, (uint32_t)(gen->last_ms - gen->month_begin_ms));
    put_be16(at + 10, gen->counter);
    return hex_encode(bytes, (size_t)gen->ip_len + UNIQ_KEY_MORE, text);
}

int uniq_key_time(struct slice text, uint32_t *ms_of_month)
{
    uint8_t bytes[BYTES_MAX];
    size_t len = hex_decode(text, bytes);

    if (len == 0) {
        return ESCROW_EINVAL;
    }
    *ms_of_month = get_be32(bytes + len - 6);
    return 0;
}
