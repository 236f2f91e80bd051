/** Ways for the xenstore's bytes between a client and the store, without any I/O of the operating system. */
import type { MessagePort } from "node:worker_threads";
import { DiskError } from "../../errors.js";
import type { Connection } from "./connection.js";
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

/** Either end of a MessagePort: a client in a worker thread, or with `serveTransport` the store's side of it. Closing closes the port. */
export function messagePortTransport(port: MessagePort): Transport {
  let ended: (reason?: DiskError) => void = () => {};
  let closed = false;
  const end = (reason?: DiskError) => {
    if (closed) return;
    closed = true;
    port.close();
    ended(reason);
  };
  port.on("close", () => end());
  return {
    send(bytes) {
      // A view on a larger buffer would be sent with all of it.
      if (!closed) port.postMessage(bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice());
    },
    onReceive(callback) {
      port.on("message", (message: unknown) => {
        if (closed) return;
        if (message instanceof Uint8Array) callback(message);
        else
          end(new DiskError("PROTOCOL", `Cannot read from xenstore port: a ${typeof message} came, allowed are bytes`));
      });
    },
    onClose: (callback) => (ended = callback),
    close() {
      closed = true;
      port.close();
    },
  };
}

/** Serves the client at the other end of `transport` as `domid`, until either side ends it. See `Xenstored.connect` for who may. */
export function serveTransport(xenstored: Xenstored, domid: number, transport: Transport): Connection {
  const connection = xenstored.connect(
    domid,
    (bytes) => transport.send(bytes),
    () => transport.close(),
  );
  transport.onReceive((bytes) => connection.receive(bytes));
  transport.onClose(() => connection.close());
  return connection;
}
