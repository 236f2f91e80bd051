/**
 * What the users of a guest's disk call, while rings come and go beneath: calls go to the rings of the time, wait while
 * the domain is suspended, and go elsewhere for good when the domain has moved to another host.
 */
import type { BlockDevice } from "../block/device.js";
import type { LendRead, UseBytes } from "../block/lent-read.js";
import { bufferOf, endRequest, type Request } from "./blkfront-request.js";
import { BLKIF_OP, BLKIF_RSP } from "./blkif/layout.js";

export type DiskCalls = Pick<BlockDevice, "read" | "write" | "flush" | "discard"> & {
  /** Where it is missing nothing is lent. */
  readonly lend?: LendRead;
};

/** A call that had no answer when the domain was suspended. Bytes. `data` is a copy. */
export type OutstandingCall =
  | { readonly kind: "write"; readonly offset: number; readonly data: Uint8Array }
  | { readonly kind: "discard"; readonly offset: number; readonly length: number }
  | { readonly kind: "flush" };

export class BlkfrontIo implements DiskCalls {
  #target: DiskCalls | undefined;
  #failure: Error | undefined;
  #waiting: { start(target: DiskCalls): void; fail(error: Error): void }[] = [];
  /** Requests of the rings that were left, without an answer. */
  unanswered: readonly Request[] = [];

  constructor(target: DiskCalls) {
    this.#target = target;
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    return this.#target ? this.#target.read(offset, into) : this.#later((target) => target.read(offset, into));
  }

  /** While calls wait, nothing is lent. */
  lend(offset: number, length: number, use: UseBytes): Promise<void> | null {
    return this.#target?.lend?.(offset, length, use) ?? null;
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    return this.#target ? this.#target.write(offset, data) : this.#later((target) => target.write(offset, data));
  }

  flush(): Promise<void> {
    return this.#target ? this.#target.flush() : this.#later((target) => target.flush());
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#target
      ? this.#target.discard(offset, length)
      : this.#later((target) => target.discard(offset, length));
  }

  /** From now on calls wait. */
  hold(): void {
    this.#target = undefined;
  }

  /** What waited goes first, in its order. */
  resume(target: DiskCalls): void {
    this.#target = target;
    for (const call of this.#waiting.splice(0)) call.start(target);
  }

  /** Ends what waits or is unanswered, and all later calls. */
  fail(reason: Error): void {
    this.#failure = reason;
    this.#target = undefined;
    for (const call of this.#waiting.splice(0)) call.fail(reason);
    for (const { operation } of this.unanswered) operation.reject(reason);
    this.unanswered = [];
  }

  /** What another host must do in this one's place, in order. Reads are not part of it: they have nobody to answer there. */
  outstanding(): OutstandingCall[] {
    return this.unanswered.filter(isChange).map(outstandingCall);
  }

  /**
   * The disk is reached through `target` from now on, where the outstanding calls ended with `statuses` (an error's text,
   * or null), in the order of `outstanding`. Unanswered reads are asked again there, before anything new.
   */
  moveTo(target: DiskCalls, statuses: readonly (string | null)[]): void {
    const requests = this.unanswered;
    this.unanswered = [];
    for (const request of requests.filter((each) => !isChange(each))) readThere(request, target);
    for (const [i, { operation }] of requests.filter(isChange).entries())
      endRequest(operation, statuses[i] === null ? BLKIF_RSP.OKAY : BLKIF_RSP.ERROR);
    this.resume(target);
  }

  #later(start: (target: DiskCalls) => Promise<void>): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ start: (target) => void start(target).then(resolve, reject), fail: reject });
    });
  }
}

function isChange({ operation }: Request): boolean {
  return operation.code !== BLKIF_OP.READ;
}

function outstandingCall({ operation, offset, length, from }: Request): OutstandingCall {
  if (operation.code === BLKIF_OP.DISCARD) return { kind: "discard", offset, length };
  if (operation.code === BLKIF_OP.WRITE)
    return { kind: "write", offset, data: new Uint8Array(operation.buffer!.subarray(from, from + length)) };
  return { kind: "flush" };
}

function readThere({ operation, offset, length, from }: Request, target: DiskCalls): void {
  target.read(offset, bufferOf(operation, length).subarray(from, from + length)).then(
    () => endRequest(operation, BLKIF_RSP.OKAY),
    () => endRequest(operation, BLKIF_RSP.ERROR),
  );
}
