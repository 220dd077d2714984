/* Writing noted consumer offsets to the log. Thread: loop. */
#ifndef SRC_BROKER_OFFSETS_FLUSH_H
#define SRC_BROKER_OFFSETS_FLUSH_H

struct broker;

/* Append everything noted and not yet appended as OFFSETS records. What is refused stays noted. */
void offsets_flush(struct broker *b);

#endif
