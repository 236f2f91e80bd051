/** A store with raw clients: requests by name, replies and events in the order in which they came. */

import { Xenstored, type XenstoredOptions } from "#src/xen/xenstore/server.js";
import {
  bytesToText,
  encodeMessage,
  joinStrings,
  MESSAGE_TYPES,
  type MessageName,
  MessageParser,
} from "#src/xen/xenstore/wire.js";

const NAMES = new Map<number, string>(Object.entries(MESSAGE_TYPES).map(([name, type]) => [type, name]));

/** `READ hello`, `ERROR ENOENT`, `WATCH_EVENT /a|token`: NUL reads as `|`, the last one left out. */
export interface Received {
  readonly name: string;
  readonly text: string;
  readonly reqId: number;
  readonly txId: number;
  readonly payload: Uint8Array;
}

export class RawClient {
  readonly received: Received[] = [];
  readonly connection;
  ended = false;
  reason: Error | undefined;
  /** What `send` answers: false plays a client that stops reading. */
  reads = true;
  readonly #parser = new MessageParser();
  #reqId = 0;

  constructor(xenstored: Xenstored, domid: number) {
    this.connection = xenstored.connect(
      domid,
      (bytes) => {
        this.#parser.push(bytes);
        for (let message = this.#parser.next(); message; message = this.#parser.next()) {
          const text = bytesToText(message.payload).replace(/\0$/, "").replaceAll("\0", "|");
          this.received.push({ ...message, name: NAMES.get(message.type)!, text });
        }
        return this.reads;
      },
      (reason) => {
        this.ended = true;
        this.reason = reason;
      },
    );
  }

  /** Sends strings, each with its NUL, then `value` as it is. */
  send(name: MessageName | number, strings: readonly string[] = [""], txId = 0, value = ""): number {
    const type = typeof name === "number" ? name : MESSAGE_TYPES[name];
    const payload = Buffer.concat([joinStrings(strings), Buffer.from(value, "latin1")]);
    this.connection.receive(encodeMessage({ type, reqId: ++this.#reqId, txId, payload }));
    return this.#reqId;
  }

  /** The reply's text; an error reads as its name. */
  ask(name: MessageName | number, strings: readonly string[] = [""], txId = 0, value = ""): string {
    const reqId = this.send(name, strings, txId, value);
    const reply = this.received.findLast((one) => one.reqId === reqId);
    if (!reply) throw new Error(`no reply to ${name}`);
    return reply.text;
  }

  read = (path: string, txId = 0) => this.ask("READ", [path], txId);
  write = (path: string, value: string, txId = 0) => this.ask("WRITE", [path], txId, value);
  mkdir = (path: string, txId = 0) => this.ask("MKDIR", [path], txId);
  rm = (path: string, txId = 0) => this.ask("RM", [path], txId);
  list = (path: string, txId = 0) => this.ask("DIRECTORY", [path], txId);
  chmod = (path: string, ...permissions: string[]) => this.ask("SET_PERMS", [path, ...permissions]);
  begin = () => Number(this.ask("TRANSACTION_START"));
  commit = (txId: number) => this.ask("TRANSACTION_END", ["T"], txId);
  abort = (txId: number) => this.ask("TRANSACTION_END", ["F"], txId);
  watch = (path: string, token: string) => this.ask("WATCH", [path, token]);

  /** The watch events since the last call, as `path|token`. */
  events(): string[] {
    const events = this.received.filter(({ name }) => name === "WATCH_EVENT").map(({ text }) => text);
    this.received.length = 0;
    return events;
  }
}

/** A store with Dom0 and two guests, 1 and 2, who own `/local/domain/N/data`. */
export function guests(options: XenstoredOptions = {}) {
  const xenstored = new Xenstored(options);
  const dom0 = new RawClient(xenstored, 0);
  const [guest1, guest2] = [1, 2].map((domid) => {
    xenstored.introduce(domid);
    dom0.mkdir(`/local/domain/${domid}/data`);
    dom0.chmod(`/local/domain/${domid}`, "n0", `r${domid}`);
    dom0.chmod(`/local/domain/${domid}/data`, `n${domid}`);
    return new RawClient(xenstored, domid);
  }) as [RawClient, RawClient];
  dom0.received.length = 0;
  return { xenstored, dom0, guest1, guest2 };
}
