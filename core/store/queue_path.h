/*
 * Where a consume queue's files are: queues/<topic>/<id>/<first byte, 20 digits>. FORMAT.md,
 * "Consume queues".
 *
 * A topic's folder is its name with every byte outside [A-Za-z0-9_-] as %XX, so that it is
 * reversible, never "." or "..", and never leaves the folder. Longer than QUEUE_PATH_PART_MAX, it
 * is several nested folders, all but the last of which end in '+' (which no encoded name contains).
 *
 * Pure. Thread: any.
 */
#ifndef CORE_STORE_QUEUE_PATH_H
#define CORE_STORE_QUEUE_PATH_H

#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUEUE_PATH_ROOT     "queues"
#define QUEUE_PATH_PART_MAX 240u /* and a '+': below the 255 bytes of every file system */
#define QUEUE_PATH_MAX      832u /* root, 3 x RETRY_TOPIC_LEN_MAX, 3 x "+/", id, 20 digits, NUL */

struct queue_path {
    char text[QUEUE_PATH_MAX]; /* NUL-terminated */
    size_t len;
};

/* Folder of a topic: 1..RETRY_TOPIC_LEN_MAX bytes. */
void queue_path_topic(struct queue_path *p, struct slice topic);

/* Folder of a queue. */
void queue_path_queue(struct queue_path *p, struct slice topic, uint32_t id);

/* A file: its number is first entry / QUEUE_FILE_ENTRIES. */
void queue_path_file(struct queue_path *p, struct slice topic, uint32_t id, uint32_t file);

/* Append "/<name>"; false, and unchanged, when it does not fit. */
bool queue_path_append(struct queue_path *p, const char *name);

/*
 * Topic of an encoded name (parts joined, without '+'); dst has RETRY_TOPIC_LEN_MAX bytes. false
 * when it is not exactly what an encoding makes.
 */
bool queue_path_topic_decode(struct slice encoded, uint8_t *dst, size_t *len);

/* Queue id of a folder name; false when it is not canonical or too large. */
bool queue_path_id_decode(struct slice name, uint32_t *id);

/* File number of a file name; false when it is not 20 digits or no multiple of the file size. */
bool queue_path_file_decode(struct slice name, uint32_t *file);

#endif
