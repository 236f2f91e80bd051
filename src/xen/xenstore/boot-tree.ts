/** What is in a store before the toolstack's first write: `/tool/xenstored`, beside `/` and the special nodes that every store has. */
import type { Xenstored } from "./server.js";

const DOM0 = { domid: 0, privileged: true, target: undefined } as const;

export function createBootTree({ store }: Xenstored): void {
  store.mkdir(DOM0, store.tree, "/tool/xenstored");
}
