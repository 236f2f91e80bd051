/** A guest asks Dom0 what of its disks is stored, and waits no longer than the answer is worth: it can read instead. */
import type { StoredRun } from "../xen/blkfront-extents.js";
import type { ExtentsRequest } from "./guest-thread.js";
import { within } from "./within.js";

type Answer = readonly StoredRun[];

/**
 * Gives null when `call` takes longer than `timeoutMs`. While an answer is late nothing more is asked about that disk, and
 * null is given at once: each of its users would wait as long again.
 */
export function askExtents(
  call: (request: ExtentsRequest) => Promise<Answer>,
  timeoutMs: number,
): (request: ExtentsRequest) => Promise<Answer | null> {
  const late = new Set<ExtentsRequest>();
  return async (request) => {
    if ([...late].some(({ devid }) => devid === request.devid)) return null;
    const asked = call(request);
    const answer = await within<Answer | null>(timeoutMs, asked, null);
    if (answer === null) {
      late.add(request);
      const arrived = () => late.delete(request);
      void asked.then(arrived, arrived);
    }
    return answer;
  };
}
