/*
 * The subcommands. Each takes the arguments behind its name and returns the exit code (cli.h); argv
 * may be changed.
 */
#ifndef SRC_TOOLS_COMMANDS_H
#define SRC_TOOLS_COMMANDS_H

int produce_main(int argc, char **argv);
int consume_main(int argc, char **argv);
int topics_main(int argc, char **argv);
int groups_main(int argc, char **argv);
int transactions_main(int argc, char **argv);
int decide_main(int argc, char **argv);
int message_main(int argc, char **argv);
int copy_main(int argc, char **argv);
int status_main(int argc, char **argv);
int skip_damaged_main(int argc, char **argv);
int dump_main(int argc, char **argv);
int verify_main(int argc, char **argv);

#endif
