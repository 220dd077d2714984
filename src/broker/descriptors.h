/*
 * How many files the process may have open, and what connections.max can be then.
 *
 * Thread:  before the loop runs.
 */
#ifndef SRC_BROKER_DESCRIPTORS_H
#define SRC_BROKER_DESCRIPTORS_H

#include "src/broker/config.h"

/*
 * Raise the soft limit as far as connections.max needs and the hard limit allows. Where that is not
 * enough connections.max is lowered, with a warning: connections must not take the descriptors that
 * the store needs for its next segment.
 */
void descriptors_prepare(struct config *c);

#endif
