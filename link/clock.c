/* The jump between two clocks that tells of a suspend.
 *
 * CLOCK_MONOTONIC stands still while the machine sleeps, CLOCK_BOOTTIME does not. Their difference therefore
 * grows by the length of each sleep, and by nothing else. A link that lived through one is not worth keeping:
 * its peer has given it up, its timers did not run, and after a restored snapshot its keys and packet numbers
 * would be used a second time, which no AEAD survives.
 *
 * Both clocks are read one after the other, so the difference trembles by the time between the reads. Only a
 * change of more than a second counts; a shorter sleep is found by the pings, as any silence is. A change
 * in either direction counts: a restored snapshot may take the difference back.
 */
#include "link/clock.h"

#include <time.h>

#define JUMP_US G_USEC_PER_SEC

static gint64
clock_us(clockid_t id)
{
    struct timespec t = {0};

    if (clock_gettime(id, &t) != 0)
        return 0;
    return (gint64)t.tv_sec * G_USEC_PER_SEC + t.tv_nsec / 1000;
}

gint64
cbus_clock_asleep(void)
{
    gint64 monotonic = clock_us(CLOCK_MONOTONIC);
    gint64 boottime = clock_us(CLOCK_BOOTTIME);

    return boottime - monotonic;
}

gboolean
cbus_clock_jumped(gint64 *asleep, gint64 asleep_now)
{
    gint64 jump = asleep_now - *asleep;

    *asleep = asleep_now;
    return jump > JUMP_US || jump < -JUMP_US;
}
