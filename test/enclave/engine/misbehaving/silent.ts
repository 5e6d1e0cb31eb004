/** Never gets ready. */
setInterval(() => {}, 1_000);
