/**
 * Calls that wait for this very process: opening, syncing or clearing a loop device ends only when a session here has
 * answered. They wait on threads of Node's pool, of which the disks below need some, too; so there is one such call at a time.
 */
let last: Promise<unknown> = Promise.resolve();

export function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const result = last.then(work);
  last = result.catch(() => {});
  return result;
}
