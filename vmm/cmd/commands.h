/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the program; see struct command. */
#ifndef RAMET_VMM_CMD_COMMANDS_H
#define RAMET_VMM_CMD_COMMANDS_H

int cmd_run(int argc, char **argv);
int cmd_fork(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_stat(int argc, char **argv);
int cmd_console(int argc, char **argv);
int cmd_pause(int argc, char **argv);
int cmd_resume(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_reset(int argc, char **argv);
int cmd_wait(int argc, char **argv);
int cmd_dump(int argc, char **argv);

#endif
