/** The Python with PyTorch that tests run, where there is one: TSRT_BENCH_PYTHON, python3, or the system's. */
import { spawnSync } from 'node:child_process';

const candidates = [process.env['TSRT_BENCH_PYTHON'], 'python3', '/usr/bin/python3'].filter((name) => name !== undefined);

export const PYTHON = candidates.find((command) => spawnSync(command, ['-c', 'import torch, numpy'], { stdio: 'ignore', timeout: 60_000 }).status === 0);

if (PYTHON !== undefined) process.env['TSRT_BENCH_PYTHON'] = PYTHON;
