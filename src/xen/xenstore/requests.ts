/** Every request that clients can make: who may, what its payload is, what it does, what it replies (xenstore.txt; fact sheet 6.1). */
import type { Connection } from "./connection.js";
import { control } from "./control.js";
import type { NodeView } from "./node-view.js";
import { homeOf, quote, resolvePath } from "./path.js";
import { DOMID_LIMIT, parsePermissions, printPermission } from "./permissions.js";
import type { Store } from "./store.js";
import type { Transaction } from "./transaction.js";
import { type Watches, watchSize } from "./watches.js";
import { bytesToText, joinStrings, type MessageName, PAYLOAD_MAX, splitStrings } from "./wire.js";
import { xenstoreError } from "./xenstore-error.js";

/** The domains that the store knows. All throw `DiskError` with a protocol name. */
export interface DomainTable {
  exists(domid: number): boolean;
  isIntroduced(domid: number): boolean;
  introduce(domid: number, frame: number, port: number): void;
  release(domid: number): void;
  resume(domid: number): void;
  setTarget(domid: number, target: number): void;
  /** What each uses of its quotas. */
  usage(): { domid: number; nodes: number; watches: number; transactions: number; bytes: number }[];
  /** Into the host's log. */
  notice(text: string): void;
}

export interface Request {
  readonly connection: Connection;
  readonly store: Store;
  readonly watches: Watches<Connection>;
  readonly domains: DomainTable;
  /** The transaction that the message names, if any. */
  readonly transaction: Transaction | undefined;
  readonly txId: number;
  /** That transaction, or the tree. */
  readonly view: NodeView;
  readonly payload: Uint8Array;
  /** To run when the reply is out. */
  afterReply?: () => void;
}

interface RequestType {
  readonly privileged?: true;
  readonly ignoresTransaction?: true;
  /** Whether it has changed nodes at once, and so what others' transactions have read. */
  changes?(request: Request): boolean;
  /** The reply's payload; none means `OK`. */
  // biome-ignore lint/suspicious/noConfusingVoidType: most requests have nothing to return, and should not have to say so.
  run(request: Request): Uint8Array | undefined | void;
}

const outsideTransaction = ({ transaction }: Request) => !transaction;

export const REQUESTS: Partial<Record<MessageName, RequestType>> = {
  CONTROL: {
    privileged: true,
    run(r) {
      const reply = control(r, strings(r.payload));
      if (reply === null) throw malformed();
      return reply;
    },
  },
  DIRECTORY: { run: directory },
  DIRECTORY_PART: { run: directoryPart },
  READ: { run: (r) => r.store.read(r.connection.caller, r.view, onePath(r)) },
  GET_PERMS: { run: getPermissions },
  SET_PERMS: { changes: outsideTransaction, run: setPermissions },
  WRITE: { changes: outsideTransaction, run: write },
  MKDIR: { changes: outsideTransaction, run: (r) => r.store.mkdir(r.connection.caller, r.view, onePath(r)) },
  RM: { changes: outsideTransaction, run: (r) => r.store.rm(r.connection.caller, r.view, onePath(r)) },
  WATCH: { ignoresTransaction: true, run: watch },
  UNWATCH: { ignoresTransaction: true, run: unwatch },
  RESET_WATCHES: { run: (r) => forgetClient(r.connection, r.store, r.watches) },
  TRANSACTION_START: { run: startTransaction },
  TRANSACTION_END: { changes: ({ payload }) => bytesToText(payload) === "T\0", run: endTransaction },
  INTRODUCE: { privileged: true, run: introduce },
  RELEASE: { privileged: true, run: (r) => r.domains.release(oneDomid(r)) },
  RESUME: { privileged: true, run: (r) => r.domains.resume(oneDomid(r)) },
  SET_TARGET: { privileged: true, run: setTarget },
  IS_DOMAIN_INTRODUCED: {
    privileged: true,
    run: (r) => joinStrings([r.domains.isIntroduced(oneDomid(r)) ? "T" : "F"]),
  },
  GET_DOMAIN_PATH: { run: (r) => joinStrings([homeOf(oneDomid(r))]) },
};

/** Drops what a client holds open: its watches and its transactions. */
export function forgetClient(connection: Connection, store: Store, watches: Watches<Connection>): void {
  for (const watch of connection.watches.values()) {
    watches.remove(watch);
    connection.account.bytes -= watchSize(watch);
  }
  connection.account.watches -= connection.watches.size;
  connection.watches.clear();
  for (const transaction of connection.transactions.values()) store.abort(transaction);
  connection.account.transactions -= connection.transactions.size;
  connection.transactions.clear();
}

function directory({ connection, store, view, payload }: Request): Uint8Array {
  const path = resolvePath(oneString(payload), connection.home);
  const listing = joinStrings(store.directory(connection.caller, view, path).names);
  if (listing.length > PAYLOAD_MAX) throw xenstoreError("E2BIG", `list xenstore node ${quote(path)}`);
  return listing;
}

/** Generation, then as many names from byte `offset` of the whole listing on as fit; one more NUL marks the end. */
function directoryPart({ connection, store, view, payload }: Request): Uint8Array {
  const [path, offsetText] = strings(payload, 2);
  const { names, generation } = store.directory(connection.caller, view, resolvePath(path!, connection.home));
  const offset = parseNumber(offsetText!);
  const head = joinStrings([String(generation)]);
  let [position, length] = [0, 0];
  const part: string[] = [];
  for (const name of names) {
    if (position >= offset) {
      length += name.length + 1;
      if (head.length + length >= PAYLOAD_MAX) return concat(head, joinStrings(part));
      part.push(name);
    }
    position += name.length + 1;
  }
  return concat(head, joinStrings(part), new Uint8Array(1));
}

function write({ connection, store, view, payload }: Request): void {
  const end = payload.indexOf(0);
  if (end < 0) throw malformed();
  const path = resolvePath(bytesToText(payload.subarray(0, end)), connection.home);
  store.write(connection.caller, view, path, payload.slice(end + 1));
}

function getPermissions({ connection, store, view, payload }: Request): Uint8Array {
  const path = resolvePath(oneString(payload), connection.home, true);
  const listing = joinStrings(store.permissions(connection.caller, view, path).map(printPermission));
  if (listing.length > PAYLOAD_MAX) throw xenstoreError("E2BIG", `list permissions of xenstore node ${quote(path)}`);
  return listing;
}

function setPermissions({ connection, store, domains, view, payload }: Request): void {
  const [path, ...texts] = strings(payload);
  const permissions = parsePermissions(texts, (domid) => domains.exists(domid));
  store.setPermissions(connection.caller, view, resolvePath(path!, connection.home, true), permissions);
}

function watch(request: Request): void {
  const { connection, watches, store, payload } = request;
  const [text, token, depthText, ...more] = strings(payload);
  if (text === undefined || token === undefined || more.length > 0) throw malformed();
  const path = resolvePath(text, connection.home, true);
  const key = `${path}\0${token}`;
  if (connection.watches.has(key)) throw xenstoreError("EEXIST", `watch xenstore path ${quote(path)}`);
  if (!connection.caller.privileged && connection.account.watches >= store.quotas.watches)
    throw xenstoreError("ENOSPC", `watch xenstore path ${quote(path)}`);
  const depth = depthText === undefined ? Number.POSITIVE_INFINITY : parseNumber(depthText);
  const added = watches.add({ client: connection, path, token, prefix: path.length - text.length, depth });
  connection.watches.set(key, added);
  connection.account.watches++;
  connection.account.bytes += watchSize(added);
  // At once and whatever there is to see: a client starts by looking, and looks again at every event.
  request.afterReply = () => connection.event(text, token);
}

function unwatch({ connection, watches, payload }: Request): void {
  const [text, token] = strings(payload, 2);
  const path = resolvePath(text!, connection.home, true);
  const found = connection.watches.get(`${path}\0${token}`);
  if (!found) throw xenstoreError("ENOENT", `stop watching xenstore path ${quote(path)}`);
  watches.remove(found);
  connection.watches.delete(`${path}\0${token}`);
  connection.account.watches--;
  connection.account.bytes -= watchSize(found);
}

function startTransaction({ connection, store, transaction }: Request): Uint8Array {
  if (transaction) throw xenstoreError("EBUSY", "start xenstore transaction inside another");
  if (!connection.caller.privileged && connection.account.transactions >= store.quotas.transactions)
    throw xenstoreError("ENOSPC", "start xenstore transaction");
  const id = connection.newTransactionId();
  connection.transactions.set(id, store.begin(connection.caller, connection.account));
  connection.account.transactions++;
  return joinStrings([String(id)]);
}

function endTransaction({ connection, store, transaction, txId, payload }: Request): void {
  const verdict = oneString(payload);
  if (verdict !== "T" && verdict !== "F") throw malformed();
  if (!transaction) throw xenstoreError("ENOENT", "end xenstore transaction");
  // Over in any case: a failed commit leaves no transaction behind.
  connection.transactions.delete(txId);
  connection.account.transactions--;
  if (verdict === "T") store.commit(connection.caller, transaction);
  else store.abort(transaction);
}

function introduce({ domains, payload }: Request): void {
  const [domid, frame, port] = strings(payload);
  if (port === undefined || !/^[1-9]\d*$/.test(port)) throw malformed();
  domains.introduce(parseDomid(domid!), parseNumber(frame!), parseNumber(port));
}

function setTarget({ domains, payload }: Request): void {
  const [domid, target] = strings(payload, 2);
  domains.setTarget(parseDomid(domid!), parseDomid(target!));
}

function onePath({ payload, connection }: Request): string {
  return resolvePath(oneString(payload), connection.home);
}

function oneDomid({ payload }: Request): number {
  return parseDomid(oneString(payload));
}

/** The payload's only string: its one NUL is its last byte. */
function oneString(payload: Uint8Array): string {
  return strings(payload, 1)[0]!;
}

/** All strings of the payload, at least one; `count` of them where given. */
function strings(payload: Uint8Array, count?: number): string[] {
  const found = splitStrings(payload);
  if (!found || (count !== undefined && found.length !== count)) throw malformed();
  return found;
}

function parseDomid(text: string): number {
  const domid = parseNumber(text);
  if (domid >= DOMID_LIMIT) throw malformed();
  return domid;
}

function parseNumber(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw malformed();
  return Number(text);
}

function malformed(): Error {
  return xenstoreError("EINVAL", "understand xenstore request");
}

function concat(...parts: Uint8Array[]): Uint8Array {
  return Buffer.concat(parts);
}
