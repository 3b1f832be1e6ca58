/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_REPLAY_H
#define REPLIKV_TESTS_SIM_REPLAY_H

#include "proxy/core/recording.h"

/* One node stepped through its recording, of replikvd or of a simulated host:
 * the production core, as it was driven. Of each step it is seen whether it did
 * what was recorded; what was recorded behind a gap is told, but not stepped.
 * A failed assertion that ended the recording fails again. */

enum replay_end {
    REPLAY_SAME = 0,
    REPLAY_NO_RECORDING = 1, /* the file is none, or damaged */
    REPLAY_OTHER = 2,        /* a step did something else */
};

/* The last line that it prints says how it ended; with tells there is one for
 * each event before that. name is the file's, for people. */
enum replay_end replay(const char *name, struct bytes file, bool tells);
enum replay_end replay_file(const char *path, bool tells);

/* story.c: " write "key" -> store to n2" and so on, of an event; of what a step
 * did about it. Names come from the topology. */
void story_event(const struct topology *topology, const struct event *event);
void story_effects(const struct topology *topology,
                   const struct effects *effects);
/* Text of a file, which may be anybody's, escaped. */
void story_text(const char *before, const char *text);

#endif
