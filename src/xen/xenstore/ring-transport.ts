/** A domain's way to xenstored: its shared page and its event channel (what a kernel's xenbus driver does with them). */
import { DiskError } from "../../errors.js";
import type { EventChannels } from "../platform/platform.js";
import type { RingWords } from "../platform/ring-words.js";
import { SERVER_FEATURES, XenstoreRing } from "./ring.js";
import type { Transport } from "./transport.js";

export interface RingTransportOptions {
  readonly words: RingWords;
  readonly events: Pick<EventChannels, "listen" | "notify">;
  /** This domain's own port. The caller dispatches its events. */
  readonly port: number;
}

/** Takes the page over from whoever used it before in this domain: what was under way then is dropped. */
export function ringTransport(options: RingTransportOptions): Transport {
  return new RingTransport(options);
}

class RingTransport implements Transport {
  readonly #ring: XenstoreRing;
  readonly #options: RingTransportOptions;
  readonly #waiting: Uint8Array[] = [];
  #receive: (bytes: Uint8Array) => void = () => {};
  #ended: (reason?: DiskError) => void = () => {};
  #pumping = false;
  /** Bytes were read, and the peer has not been told. */
  #owed = false;
  #closed = false;

  constructor(options: RingTransportOptions) {
    this.#options = options;
    this.#ring = new XenstoreRing(options.words, "client");
    options.events.listen(options.port, () => this.#onEvent());
    if (!this.#ring.quiescent && this.#ring.serverFeatures & SERVER_FEATURES.reconnection) {
      this.#ring.askReconnect();
      options.events.notify(options.port);
    }
  }

  send(bytes: Uint8Array): void {
    this.#waiting.push(bytes);
    if (this.#pumping) return;
    this.#pumping = true;
    queueMicrotask(() => {
      // One index update and one event for all that was sent together.
      this.#pumping = false;
      this.#onEvent();
    });
  }

  onReceive(callback: (bytes: Uint8Array) => void): void {
    this.#receive = callback;
  }

  onClose(callback: (reason?: DiskError) => void): void {
    this.#ended = callback;
  }

  close(): void {
    this.#closed = true;
    this.#waiting.length = 0;
    this.#options.events.listen(this.#options.port, () => {});
  }

  #onEvent(): void {
    if (this.#closed || this.#ring.reconnecting) return;
    try {
      if (this.#ring.error !== 0)
        throw new DiskError("PROTOCOL", `Cannot use xenstore ring: xenstored left it with error ${this.#ring.error}`);
      this.#exchange();
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      this.close();
      this.#ended(error);
    }
  }

  /** Writes what fits and reads what is there. */
  #exchange(): void {
    if (this.#write()) this.#notify();
    for (let bytes = this.#ring.read(); bytes && !this.#closed; bytes = this.#ring.read()) {
      // Whoever gets a reply often has the next request at once: one event for both.
      if (!this.#owed) setImmediate(() => this.#owed && this.#notify());
      this.#owed = true;
      this.#receive(bytes);
    }
  }

  #notify(): void {
    this.#owed = false;
    if (!this.#closed) this.#options.events.notify(this.#options.port);
  }

  #write(): boolean {
    let moved = false;
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      const written = this.#ring.write(next);
      moved ||= written > 0;
      if (written < next.length) {
        this.#waiting[0] = next.subarray(written);
        break;
      }
      this.#waiting.shift();
    }
    return moved;
  }
}
