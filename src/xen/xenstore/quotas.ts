/** What one unprivileged domain may use. Dom0 is exempt. The figures are those of C xenstored 4.17 (number of events: of oxenstored). */

export interface Quotas {
  /** Nodes owned. */
  readonly nodes: number;
  /** Bytes of one node: record header, permissions, value and the names of its children. */
  readonly nodeSize: number;
  readonly watches: number;
  /** Transactions open at one time. */
  readonly transactions: number;
  /** Entries in one permission list. */
  readonly permissions: number;
  /** Nodes read, written or found absent within one transaction. */
  readonly transactionNodes: number;
  /** Watch events that wait for a client that does not read; further ones are lost. */
  readonly pendingEvents: number;
  /** Milliseconds that such an event waits before it is dropped. */
  readonly eventAge: number;
  /** Requests answered whose replies the client has not taken yet; then its next request waits. */
  readonly outstanding: number;
  /** Bytes that the store keeps for the domain (nodes, watches, transactions, what waits for it): above it, this is told once. */
  readonly memorySoft: number;
  /** From here on no request of the domain is looked at and no event kept for it. */
  readonly memoryHard: number;
}

export const DEFAULT_QUOTAS: Quotas = {
  nodes: 1000,
  nodeSize: 2048,
  watches: 128,
  transactions: 10,
  permissions: 5,
  transactionNodes: 1024,
  pendingEvents: 1024,
  eventAge: 20_000,
  outstanding: 20,
  memorySoft: 2 << 20,
  memoryHard: (2 << 20) + (512 << 10),
};

/** The defaults with `changes`; 0 lifts a quota. */
export function quotas(changes: Partial<Quotas> = {}): Quotas {
  const entries = Object.entries({ ...DEFAULT_QUOTAS, ...changes });
  return Object.fromEntries(
    entries.map(([key, value]) => [key, value || Number.POSITIVE_INFINITY]),
  ) as unknown as Quotas;
}
