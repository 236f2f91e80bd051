/** What can be seen of a frontend's ring. */
import type { FrontRingIndices } from "./ring.js";

/** One ring as its frontend sees it. */
export interface FrontRingState extends FrontRingIndices {
  readonly in_flight: number;
  /** Requests that wait for a slot or for pages. */
  readonly waiting: number;
  /** The most that a request may have; above 11 in indirect requests. */
  readonly max_segments: number;
  /** Batches of requests of which the backend was told, and those of which it had not asked to be told. */
  readonly notified: number;
  readonly suppressed: number;
}
