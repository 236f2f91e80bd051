/**
 * The store as a server for any number of clients over any byte transport: in process, a unix socket, a shared ring.
 * Implements the messages of C xenstored 4.17 except RESTRICT and live update (ENOSYS), and a watch's depth of 4.22.
 */
import { DiskError } from "../../errors.js";
import { type Clock, FROZEN_CLOCK } from "./clock.js";
import { type Account, Connection, type Send } from "./connection.js";
import type { Change } from "./node-view.js";
import { INTRODUCE_DOMAIN, RELEASE_DOMAIN } from "./path.js";
import { accessOf, DOMID_LIMIT, READ } from "./permissions.js";
import { type Quotas, quotas } from "./quotas.js";
import { type DomainTable, forgetClient, REQUESTS, type Request } from "./requests.js";
import { Store } from "./store.js";
import { Watches } from "./watches.js";
import { joinStrings, MESSAGE_TYPES, type Message, type MessageName } from "./wire.js";
import { WriteRate } from "./write-rate.js";
import { xenstoreErrno, xenstoreError } from "./xenstore-error.js";

export interface XenstoredOptions {
  /** Changes to the default quotas of unprivileged domains; 0 lifts one. */
  readonly quotas?: Partial<Quotas>;
  /** Whether the hypervisor has such a domain now. Default: any may exist. */
  readonly domainExists?: (domid: number) => boolean;
  /** Without one, guests' unread events do not age and the rate of their writes is not limited. */
  readonly clock?: Clock;
  /** Something that the host's log should have, such as a guest above its memory quota. */
  readonly onNotice?: (text: string) => void;
  /**
   * A domain was introduced, or introduced again: `frame` and `port` are where its ring and its event channel are.
   * What it throws is answered, and the domain is not introduced.
   */
  readonly onIntroduce?: (domid: number, frame: number, port: number) => void;
  /** The store will not talk to the domain again. */
  readonly onRelease?: (domid: number) => void;
}

interface Domain extends Account {
  readonly connections: Set<Connection>;
  target: number | undefined;
  introduced: boolean;
  /** Its shutdown was announced. */
  shutdown: boolean;
  /** Its memory has been above the soft quota, and this was told. */
  noticed: boolean;
}

const OK = joinStrings(["OK"]);
const NAME_BY_TYPE = new Map<number, MessageName>(
  Object.entries(MESSAGE_TYPES).map(([name, type]) => [type, name as MessageName]),
);

export class Xenstored implements DomainTable {
  readonly store: Store;
  readonly #watches = new Watches<Connection>();
  readonly #domains = new Map<number, Domain>();
  readonly #options: XenstoredOptions;
  readonly #rate = new WriteRate();

  constructor(options: XenstoredOptions = {}) {
    this.#options = options;
    this.store = new Store((change) => this.#tell(change), quotas(options.quotas));
    this.#domain(0).introduced = true;
  }

  /**
   * A client with the identity of `domid`: Dom0 (privileged), or a domain that was introduced; else throws DENIED.
   * `send` gets whole messages; `onEnd` is called once, with a reason when the store ended the connection.
   */
  connect(domid: number, send: Send, onEnd?: (reason?: DiskError) => void): Connection {
    const domain = this.#domains.get(domid);
    if (!domain?.introduced)
      throw new DiskError("DENIED", `Cannot connect domain ${domid} to xenstore: it is not introduced`, {
        details: { domid },
      });
    const caller = {
      domid,
      privileged: domid === 0,
      get target() {
        return domain.target;
      },
    };
    const connection = new Connection({
      caller,
      account: domain,
      send,
      quotas: this.store.quotas,
      clock: this.#options.clock ?? FROZEN_CLOCK,
      memory: () => this.memory(domid),
      answer: (from, message) => this.#answer(from, message),
      onEnd: (ended, reason) => {
        forgetClient(ended, this.store, this.#watches);
        domain.connections.delete(ended);
        onEnd?.(reason);
      },
    });
    domain.connections.add(connection);
    return connection;
  }

  exists(domid: number): boolean {
    return domid === 0 || (this.#options.domainExists?.(domid) ?? true);
  }

  isIntroduced(domid: number): boolean {
    return this.#domains.get(domid)?.introduced ?? false;
  }

  /** Lets the domain connect. Introducing it again takes back what its connections held, as after save and restore. */
  introduce(domid: number, frame = 0, port = 1): void {
    if (!(domid > 0 && domid < DOMID_LIMIT) || !this.exists(domid))
      throw xenstoreError("EINVAL", `introduce domain ${domid}`);
    const domain = this.#domain(domid);
    const isNew = !domain.introduced;
    domain.introduced = true;
    for (const connection of domain.connections) this.reset(connection);
    try {
      this.#options.onIntroduce?.(domid, frame, port);
    } catch (error) {
      if (isNew) this.#domains.delete(domid);
      throw error;
    }
    if (isNew) this.store.announce(INTRODUCE_DOMAIN);
  }

  /** Takes back what the client holds open, and forgets what was under way: it starts over as the same client. */
  reset(connection: Connection): void {
    forgetClient(connection, this.store, this.#watches);
    connection.reset();
  }

  /** Bytes that the store keeps for the domain. */
  memory(domid: number): number {
    return this.store.tree.ownedBytes(domid) + (this.#domains.get(domid)?.bytes ?? 0);
  }

  /** What each domain uses of its quotas. */
  usage(): { domid: number; nodes: number; watches: number; transactions: number; bytes: number }[] {
    return [...this.#domains].map(([domid, { watches, transactions }]) => ({
      domid,
      nodes: this.store.tree.owned(domid),
      watches,
      transactions,
      bytes: this.memory(domid),
    }));
  }

  notice(text: string): void {
    this.#options.onNotice?.(text);
  }

  /** The store is done with the domain: connections end, and everything it owned goes. EINVAL for Dom0, ENOENT for one not introduced. */
  release(domid: number): void {
    if (domid === 0) throw xenstoreError("EINVAL", "release domain 0");
    if (!this.isIntroduced(domid)) throw xenstoreError("ENOENT", `release domain ${domid}`);
    this.domainDied(domid);
  }

  /** The domain shut down but is not destroyed yet: announced once, until `resume`. */
  domainShutdown(domid: number): void {
    const domain = this.#domains.get(domid);
    if (domid === 0 || !domain?.introduced || domain.shutdown) return;
    domain.shutdown = true;
    this.store.announce(RELEASE_DOMAIN);
  }

  resume(domid: number): void {
    if (domid === 0) throw xenstoreError("EINVAL", "resume domain 0");
    if (!this.isIntroduced(domid)) throw xenstoreError("ENOENT", `resume domain ${domid}`);
    this.#domain(domid).shutdown = false;
  }

  /** The hypervisor destroyed the domain, introduced or not: nothing of it stays, and its number may be used again. */
  domainDied(domid: number): void {
    if (domid === 0) throw new RangeError("Domain-0 outlives the store");
    const domain = this.#domains.get(domid);
    this.#domains.delete(domid);
    const gone = new DiskError("NOT_FOUND", `Cannot serve domain ${domid} in xenstore: it was released`, {
      details: { domid },
    });
    for (const connection of domain?.connections ?? []) connection.end(gone);
    for (const other of this.#domains.values()) if (other.target === domid) other.target = undefined;
    this.#rate.forget(domid);
    this.store.forgetDomain(domid);
    if (!domain?.introduced) return;
    this.#options.onRelease?.(domid);
    this.store.announce(RELEASE_DOMAIN);
  }

  /** `domid` (a device model's domain) may do what `target` may. */
  setTarget(domid: number, target: number): void {
    if (!this.isIntroduced(domid) || !this.isIntroduced(target))
      throw xenstoreError("ENOENT", `set target ${target} of domain ${domid}`);
    this.#domain(domid).target = target;
  }

  #domain(domid: number): Domain {
    let domain = this.#domains.get(domid);
    if (!domain) {
      domain = {
        connections: new Set(),
        bytes: 0,
        watches: 0,
        transactions: 0,
        target: undefined,
        introduced: false,
        shutdown: false,
        noticed: false,
      };
      this.#domains.set(domid, domain);
    }
    return domain;
  }

  #answer(connection: Connection, message: Message): void {
    let request: Request | undefined;
    try {
      const name = NAME_BY_TYPE.get(message.type);
      const type = name && REQUESTS[name];
      if (!type) throw xenstoreError("ENOSYS", `answer xenstore request ${message.type}`);
      if (type.privileged && !connection.caller.privileged)
        throw xenstoreError("EACCES", `answer xenstore request ${name}`);
      request = this.#request(connection, type.ignoresTransaction ? { ...message, txId: 0 } : message);
      const payload = type.run(request) ?? OK;
      connection.reply(message, message.type, payload);
      if (!connection.caller.privileged && type.changes?.(request)) this.#slowDown(connection);
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      const errno = xenstoreErrno(error) ?? "EIO";
      connection.reply(message, MESSAGE_TYPES.ERROR, joinStrings([errno]));
    }
    request?.afterReply?.();
    if (!connection.caller.privileged) this.#noticeMemory(connection.caller.domid);
  }

  /** A guest has changed nodes: while others hold transactions it may not do so as fast as it can. */
  #slowDown(connection: Connection): void {
    const { account, caller } = connection;
    const { clock } = this.#options;
    if (!clock || this.store.openTransactions <= account.transactions) return;
    const wait = this.#rate.debit(caller.domid, clock.now());
    if (wait > 0) connection.hold(wait);
  }

  #noticeMemory(domid: number): void {
    const domain = this.#domains.get(domid);
    const { memorySoft } = this.store.quotas;
    if (!domain || domain.noticed || this.memory(domid) < memorySoft) return;
    domain.noticed = true;
    this.notice(`domain ${domid} uses ${this.memory(domid)} bytes of xenstore's memory, its quota is ${memorySoft}`);
  }

  #request(connection: Connection, { txId, payload }: Message): Request {
    const transaction = txId === 0 ? undefined : connection.transactions.get(txId);
    if (txId !== 0 && !transaction) throw xenstoreError("ENOENT", `find xenstore transaction ${txId}`);
    const { store } = this;
    const view = transaction ?? store.tree;
    return { connection, store, watches: this.#watches, domains: this, transaction, txId, view, payload };
  }

  #tell(change: Change): void {
    for (const { client, token, prefix } of this.#watches.concernedBy(change)) {
      const isVisible =
        client.caller.privileged || change.permissions.some((list) => (accessOf(client.caller, list) & READ) !== 0);
      if (isVisible) client.event(change.path.slice(prefix), token);
    }
  }
}
