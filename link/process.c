/* What both daemons ask of the system for themselves.
 *
 * Scheduling: SCHED_BATCH. A process of the default policy that wakes up pushes whoever runs aside, so that
 * on a busy computer a relay is run once for each single message: read one, seal one, publish one. A batch
 * process that wakes waits until a processor is free or its turn has come, and finds meanwhile what else has
 * arrived. Measured with 64 calls of 32 B in flight on two processors: half the processor time a call and one
 * and a half times the rate; 4 KB: an eighth less, and a tenth more. Where a processor is free, which it is
 * for every call that comes alone, nothing changes; where none is, a call may be up to a tenth slower, and
 * the machine's own work goes first. What is inherited by the agent's connector does no harm there.
 *
 * Memory: fixed thresholds, so that what a large message took is given back when it is gone, while what
 * packets come and go in stays, and few arenas, since each brings its own waste.
 *
 * Descriptors: as many as may be had. A portal takes one, a channel too.
 *
 * None of this is a condition: what the system refuses is done without. */
#include "link/process.h"

#include <malloc.h>
#include <sched.h>
#include <sys/resource.h>

#define LARGE_BYTES (256 * 1024)      /* of an allocation that is mapped by itself */
#define SPARE_BYTES (2 * 1024 * 1024) /* free memory at the heap's end that is kept */

void
cbus_process_tune(guint arenas)
{
    const struct sched_param none = {0};
    struct rlimit descriptors;

    (void)sched_setscheduler(0, SCHED_BATCH, &none);
    (void)mallopt(M_ARENA_MAX, (int)arenas);
    (void)mallopt(M_MMAP_THRESHOLD, LARGE_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, SPARE_BYTES);
    if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
        descriptors.rlim_cur = descriptors.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &descriptors);
    }
}
