/* Rest between the turns of a busy loop.
 *
 * A turn costs some 20 µs before it has done anything: waking up, four system calls, waking the next process.
 * A bus hands out messages one by one, more slowly than a turn takes; where a processor is free, a relay
 * therefore runs once for each single message, however many are under way, and so does everybody behind it.
 * Network drivers have the same difficulty with interrupts, and this is their remedy: while many messages are
 * under way, the loop begins its turns a little apart, and finds more in each.
 *
 * How many are under way is not known here, but as many as came in one turn were, at least: that is the
 * depth. Below DEPTH_LEAST, which a dozen callers with a call each do not reach, there is no rest. Else a
 * turn begins when BATCH messages, and no more than half of the depth, have had the time to come since the
 * last one began. A message that goes there and back meets four turns, and waits for half a rest at each: in
 * the worst case, when there was no queue for a processor anyway, it takes half again as long as it did. What
 * comes as fast as that without a rest, gets none, and no rest is longer than REST_MAX_US.
 *
 * Measured with 64 calls of 4 KB in flight on two processors: a fifth less processor time a call in both
 * daemons, a tenth more calls. */
#include "link/rest.h"

#define DEPTH_LEAST   24
#define BATCH         20
#define REST_LEAST_US 200 /* a shorter one costs what it saves */
#define REST_MAX_US   800
#define SLACK_US      50   /* by which the kernel wakes us too late */
#define SILENCE_US    5000 /* after which everything is new */
#define FORGET        16   /* of the rate, this part is forgotten each turn */
#define DEPTH_FORGET  64   /* of the depth */

void
cbus_rest_begin(CbusRest *rest, gint64 now)
{
    gint64 elapsed = now - rest->began;

    if (elapsed < 0 || elapsed > SILENCE_US) {
        *rest = (CbusRest){.began = now};
        return;
    }
    rest->time_us += (guint)elapsed - rest->time_us / FORGET;
    rest->recent += rest->messages - rest->recent / FORGET;
    rest->depth = MAX(rest->messages, rest->depth - (rest->depth + DEPTH_FORGET - 1) / DEPTH_FORGET);
    rest->messages = 0;
    rest->began = now;
}

gboolean
cbus_rest_is_deep(const CbusRest *rest)
{
    return rest->depth >= DEPTH_LEAST && rest->recent > 0;
}

guint
cbus_rest_us(const CbusRest *rest, gint64 now)
{
    if (!cbus_rest_is_deep(rest))
        return 0;
    gint64 apart = (gint64)MIN(rest->depth / 2, BATCH) * rest->time_us / rest->recent;
    gint64 left = rest->began + MIN(apart, REST_MAX_US) - now;
    return left >= REST_LEAST_US ? (guint)left - SLACK_US : 0;
}
