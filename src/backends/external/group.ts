/**
 * A program with everything that it starts, as one thing that can be ended: nothing stays behind, however its parent ends.
 *
 * On POSIX the program leads a process group of its own, so that one signal ends its children and theirs too (setpgid(2); what
 * leaves the group on purpose by setsid is beyond reach). Three things end it: `kill`, this process' orderly exit, and a guard,
 * a shell that waits on a pipe from this process and ends the group when the pipe closes, which even SIGKILL can't prevent; it then
 * removes the folder through which they exchanged tensors.
 */
import { type ChildProcess, spawn, type SpawnOptions, spawnSync } from 'node:child_process';

const windows = process.platform === 'win32';
const living = new Set<number>();

export interface GroupLaunch {
  readonly command: string;
  readonly args: readonly string[];
  /** Added to this process' environment. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly stdio: NonNullable<SpawnOptions['stdio']>;
  /** A folder for it alone, which goes with it when this process is killed before it could remove it. */
  readonly folder?: string;
}

export interface Group {
  readonly child: ChildProcess;
  /** Resolves when the program has ended or could not be started; its remaining children are ended then. */
  readonly exited: Promise<{ readonly code: number | null; readonly signal: string | null; readonly error: Error | undefined }>;
  /** Ends the program and all that it started, at once. Resolves when the program has ended. */
  kill(): Promise<void>;
}

/** Starts a program in a group of its own. A command that can't be started shows in `exited`. */
export function startGroup({ command, args, env, stdio, folder }: GroupLaunch): Group {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio, detached: !windows, windowsHide: true });
  const { pid } = child;
  const guard = pid === undefined || windows ? undefined : startGuard(pid, folder);
  if (pid !== undefined) enlist(pid);
  // What is under way keeps this process alive by a timer of its own; a program that waits does not.
  child.unref();
  const exited = new Promise<Awaited<Group['exited']>>((resolve) => {
    child.once('exit', (code, signal) => resolve({ code, signal, error: undefined }));
    child.once('error', (error) => {
      if (pid === undefined) resolve({ code: null, signal: null, error });
    });
  }).then((exit) => {
    if (pid !== undefined) killGroup(pid);
    guard?.kill('SIGKILL');
    return exit;
  });
  return {
    child,
    exited,
    async kill() {
      if (pid !== undefined && living.has(pid)) killGroup(pid);
      await exited;
    },
  };
}

/** Ends with the pipe; `read` returns at its end. Only the guard reads it, so nobody else keeps it open. */
function startGuard(pid: number, folder = ''): ChildProcess {
  const guard = spawn('/bin/sh', ['-c', 'read -r _; kill -s KILL -- "-$1" 2>/dev/null; [ -z "$2" ] || rm -rf -- "$2"', 'guard', String(pid), folder], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  guard.once('error', () => {});
  guard.stdin?.on('error', () => {});
  guard.unref();
  (guard.stdin as unknown as { unref?: () => void }).unref?.();
  return guard;
}

function enlist(pid: number): void {
  if (living.size === 0 && !process.listeners('exit').includes(killAll)) process.on('exit', killAll);
  living.add(pid);
}

function killAll(): void {
  for (const pid of living) killGroup(pid);
}

function killGroup(pid: number): void {
  living.delete(pid);
  if (windows) {
    spawnSync('taskkill', ['/pid', String(pid), '/T', '/F'], { stdio: 'ignore' });
    return;
  }
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // No process of the group is left.
  }
}
