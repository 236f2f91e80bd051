/** A store whose clients come over shared rings, and raw guests that write into their page what no driver would. */
import { createDomainPages, type DomainPages, peerView } from "#src/xen/platform/simulated/domain-pages.js";
import { simulatedPlatform } from "#src/xen/platform/simulated/platform.js";
import { createXenstorePage, ownXenstorePage } from "#src/xen/platform/simulated/xenstore-page.js";
import { VcpuLoop } from "#src/xen/vcpu-loop.js";
import { XenstoreClient } from "#src/xen/xenstore/client.js";
import { XENSTORE_DOMAIN_INTERFACE, XenstoreRing } from "#src/xen/xenstore/ring.js";
import { XenstoreRings } from "#src/xen/xenstore/ring-server.js";
import { ringTransport } from "#src/xen/xenstore/ring-transport.js";
import { Xenstored, type XenstoredOptions } from "#src/xen/xenstore/server.js";
import {
  bytesToText,
  encodeMessage,
  joinStrings,
  MESSAGE_TYPES,
  type MessageName,
  MessageParser,
} from "#src/xen/xenstore/wire.js";
import { RawClient, type Received } from "./support.js";

const NAMES = new Map<number, string>(Object.entries(MESSAGE_TYPES).map(([name, type]) => [type, name]));
const STORE_VCPU = 31;

type Word = "reqCons" | "reqProd" | "rspCons" | "rspProd" | "serverFeatures" | "connection" | "error";

/** One domain with a page of its own; nothing happens in the store before `RingHost.run`. */
export class RawGuest {
  readonly received: Received[] = [];
  readonly pages: Required<DomainPages>;
  readonly platform;
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  port = 0;
  /** Events from xenstored. */
  events = 0;
  /** False: leaves replies where they are. */
  reads = true;
  readonly #host: RingHost;
  #parser = new MessageParser();
  #ring: XenstoreRing;
  #unsent: Uint8Array[] = [];
  #reqId = 0;

  constructor(host: RingHost, domid: number) {
    this.#host = host;
    this.pages = createDomainPages(domid, 1 << 16);
    this.platform = simulatedPlatform(this.pages, 0);
    this.platform.introduce(peerView(host.pages0));
    const page = ownXenstorePage(this.pages);
    this.#ring = new XenstoreRing(page, "client");
    this.bytes = new Uint8Array(this.pages.memory, 4096, 4096);
    this.words = new Int32Array(this.pages.memory, 4096, 1024);
  }

  get domid(): number {
    return this.pages.domid;
  }

  get(word: Word): number {
    return this.words[XENSTORE_DOMAIN_INTERFACE.fields[word].offset / 4]! >>> 0;
  }

  set(word: Word, value: number): void {
    this.words[XENSTORE_DOMAIN_INTERFACE.fields[word].offset / 4] = value;
  }

  /** The builder's work, and INTRODUCE. */
  introduce(): string {
    const page = createXenstorePage(this.pages);
    this.port = page.port;
    this.platform.events.listen(page.port, () => this.events++);
    return this.#host.dom0.ask("INTRODUCE", [String(this.domid), String(page.frame), String(page.port)]);
  }

  /** Bytes into the ring as they are: what does not fit now goes when there is room. */
  push(bytes: Uint8Array): void {
    this.#unsent.push(bytes);
    this.#pump();
  }

  notify(): void {
    this.platform.events.notify(this.port);
  }

  send(name: MessageName | number, strings: readonly string[] = [""], txId = 0, value = ""): number {
    const type = typeof name === "number" ? name : MESSAGE_TYPES[name];
    const payload = Buffer.concat([joinStrings(strings), Buffer.from(value, "latin1")]);
    this.push(encodeMessage({ type, reqId: ++this.#reqId, txId, payload }));
    return this.#reqId;
  }

  /** The reply's text, an error's name; undefined when there is no reply. */
  ask(name: MessageName | number, strings: readonly string[] = [""], txId = 0, value = ""): string | undefined {
    const reqId = this.send(name, strings, txId, value);
    this.#host.run();
    return this.received.findLast((one) => one.reqId === reqId && one.name !== "WATCH_EVENT")?.text;
  }

  write = (path: string, value: string, txId = 0) => this.ask("WRITE", [path], txId, value);

  watchEvents(): string[] {
    return this.received.filter(({ name }) => name === "WATCH_EVENT").map(({ text }) => text);
  }

  /** Handles its events, writes what waits and reads what came; true when something moved. */
  turn(): boolean {
    const heard = this.platform.vcpu.dispatch() > 0;
    if (this.get("error") !== 0 || this.get("connection") !== 0) return heard;
    return [this.#pump(), this.reads && this.#take(), heard].includes(true);
  }

  /** A kernel that knows nothing of what was under way. */
  forget(): void {
    this.#parser = new MessageParser();
    this.#unsent = [];
    this.received.length = 0;
  }

  #pump(): boolean {
    let moved = false;
    for (let next = this.#unsent[0]; next; next = this.#unsent[0]) {
      const written = this.#ring.write(next);
      moved ||= written > 0;
      this.#unsent[0] = next.subarray(written);
      if (written < next.length) break;
      this.#unsent.shift();
    }
    if (moved) this.notify();
    return moved;
  }

  #take(): boolean {
    const bytes = this.#ring.read();
    if (!bytes) return false;
    this.notify();
    this.#parser.push(bytes);
    for (let message = this.#parser.next(); message; message = this.#parser.next()) {
      const text = bytesToText(message.payload).replace(/\0$/, "").replaceAll("\0", "|");
      this.received.push({ ...message, name: NAMES.get(message.type)!, text });
    }
    return true;
  }
}

/** xenstored with its rings, run by hand. */
export class RingHost {
  readonly pages0 = createDomainPages(0, 1 << 16);
  readonly platform = simulatedPlatform(this.pages0, STORE_VCPU);
  readonly rings = new XenstoreRings({ platform: this.platform, loop: { add() {}, wake() {} } });
  readonly xenstored: Xenstored;
  /** In process. */
  readonly dom0: RawClient;
  readonly guests: RawGuest[] = [];

  constructor(options: XenstoredOptions = {}) {
    this.xenstored = new Xenstored({
      ...options,
      onIntroduce: (domid, _frame, port) => this.rings.connect(this.xenstored, domid, port),
      onRelease: (domid) => this.rings.disconnect(domid),
    });
    this.dom0 = new RawClient(this.xenstored, 0);
  }

  /** An introduced domain that owns `/local/domain/N/data`. */
  guest(domid: number): RawGuest {
    const guest = this.newDomain(domid);
    guest.introduce();
    this.dom0.mkdir(`/local/domain/${domid}/data`);
    this.dom0.chmod(`/local/domain/${domid}`, "n0", `r${domid}`);
    this.dom0.chmod(`/local/domain/${domid}/data`, `n${domid}`);
    return guest;
  }

  /** A domain that nobody has introduced. */
  newDomain(domid: number): RawGuest {
    const gone = this.guests.findIndex((guest) => guest.domid === domid);
    if (gone >= 0) this.guests.splice(gone, 1);
    const guest = new RawGuest(this, domid);
    this.platform.forget(domid);
    this.platform.introduce(guest.pages);
    this.guests.push(guest);
    return guest;
  }

  /** One pass of xenstored's loop. */
  pass(): number {
    const events = this.platform.vcpu.dispatch();
    const served = this.rings.take();
    this.rings.publish();
    return events + served;
  }

  /** Until nothing moves any more. */
  run(): void {
    for (let pass = 0; pass < 100_000; pass++) {
      let moved = this.pass() > 0 || this.rings.finalCheck();
      for (const guest of this.guests) moved = guest.turn() || moved;
      if (!moved) return;
    }
    throw new Error("the rings do not come to rest");
  }
}

/** A client over a ring, with both loops running until `stop`. */
export function clientOverRing(xenstored: Xenstored, domid: number): { client: XenstoreClient; stop: () => void } {
  const pages0 = createDomainPages(0, 1 << 16);
  const pages = domid === 0 ? pages0 : createDomainPages(domid, 1 << 16);
  const server = simulatedPlatform(pages0, STORE_VCPU);
  server.introduce(pages);
  const serverLoop = new VcpuLoop(server.vcpu, { blocking: false, spins: 0 });
  const rings = new XenstoreRings({ platform: server, loop: serverLoop });
  const { port } = createXenstorePage(pages);
  rings.connect(xenstored, domid, port);
  const own = simulatedPlatform(pages, 0);
  own.introduce(peerView(pages0));
  const clientLoop = new VcpuLoop(own.vcpu, { blocking: false, spins: 0 });
  void serverLoop.run();
  void clientLoop.run();
  const client = new XenstoreClient(ringTransport({ words: ownXenstorePage(pages), events: own.events, port }));
  const stop = () => {
    rings.disconnect(domid);
    serverLoop.stop();
    clientLoop.stop();
  };
  return { client, stop };
}
