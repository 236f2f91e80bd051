/** Entry of the thread that waits for a FUSE connection and for writers of device nodes: poll(2), which Node's own loop cannot do for them. */
import { parentPort, workerData } from "node:worker_threads";
import { drain, pollOf } from "../os/readiness.js";
import { READINESS, type ReadinessEvent, type ReadinessThreadData } from "./readiness-words.js";

const { state, connection, writers, signal } = workerData as ReadinessThreadData;
/** Bounds how long the thread outlives an owner that was ended without stopping it. */
const LOOK_AGAIN_MS = 1000;

const unarmed = pollOf([signal, writers]);
const armed = pollOf([signal, writers, connection]);
const tell = (event: ReadinessEvent) => parentPort!.postMessage(event);

while (Atomics.load(state, 0) !== READINESS.stopped) {
  const poll = Atomics.load(state, 0) === READINESS.armed ? armed : unarmed;
  const [signalled, written, readable] = poll.wait(LOOK_AGAIN_MS);
  if (signalled) drain(signal);
  if (written && drain(writers)) tell("writer-closed");
  if (!readable) continue;
  Atomics.compareExchange(state, 0, READINESS.armed, READINESS.idle); // before it is told: its owner arms it again from then on
  tell("readable");
}
