/** The writes that a plan is made of. */

export type Step =
  /** `what` names the structure, for the dry run. */
  | { readonly kind: "write"; readonly offset: number; readonly data: Uint8Array; readonly what: string }
  /** The range reads as zeros afterwards; gives space back where it can. */
  | { readonly kind: "zero"; readonly offset: number; readonly length: number; readonly what: string }
  /** What was written before is durable before anything after it is written. */
  | { readonly kind: "flush" };

export const FLUSH: Step = { kind: "flush" };
