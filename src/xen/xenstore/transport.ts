/** Ways for the xenstore's bytes between a client and the store, without any I/O of the operating system. */
import type { DiskError } from "../../errors.js";
import type { Xenstored } from "./server.js";

/** One end of a byte stream in both directions. */
export interface Transport {
  /** Never throws; what is sent after the end is lost. The bytes are not changed by the caller afterwards. */
  send(bytes: Uint8Array): void;
  /** The stream's next bytes, cut anywhere. One callback, set before anything is sent. */
  onReceive(callback: (bytes: Uint8Array) => void): void;
  /** Called once when the other end is gone, not after one's own `close`. */
  onClose(callback: (reason?: DiskError) => void): void;
  /** Idempotent. */
  close(): void;
}

/**
 * A client in the store's own thread, with the identity of `domid`; see `Xenstored.connect` for who may.
 * Requests are answered during `send`; replies and events arrive in microtasks, so that no callback runs inside another's request.
 */
export function localTransport(xenstored: Xenstored, domid: number): Transport {
  let receive: (bytes: Uint8Array) => void = () => {};
  let ended: (reason?: DiskError) => void = () => {};
  let closed = false;
  const deliver = (bytes: Uint8Array) => queueMicrotask(() => closed || receive(bytes));
  const connection = xenstored.connect(domid, deliver, (reason) => {
    queueMicrotask(() => {
      if (closed) return;
      closed = true;
      ended(reason);
    });
  });
  return {
    send: (bytes) => connection.receive(bytes),
    onReceive: (callback) => (receive = callback),
    onClose: (callback) => (ended = callback),
    close() {
      closed = true;
      connection.close();
    },
  };
}
