import { readdirSync, readFileSync } from 'node:fs';

/** proc_pid_task_children: the processes that a process has started and that have not been waited for. */
export function childrenOf(pid: number): string[] {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const lists = tasks.map((task) => readFileSync(`/proc/${pid}/task/${task}/children`, 'latin1'));
  return lists.flatMap((list) => list.split(' ').filter((child) => child !== ''));
}
