#!/bin/sh
# Runs a test built for aarch64 with the emulator QEMU; cargo calls it. Tests start the program by its path, which the kernel refuses:
# for them a script of that name hands it to the emulator. The next build puts the program back.
set -eu
program=$(dirname "$(dirname "$1")")/weakrest
if [ -e "$program" ] && [ "$(head -c 2 "$program")" != "#!" ]; then
    # An earlier run's may be a link to the same file, and then nothing would be moved.
    rm -f "$program.emulated"
    mv "$program" "$program.emulated"
    printf '#!/bin/sh\nexec "$QEMU" -0 "$0" "%s.emulated" "$@"\n' "$program" > "$program.new"
    chmod +x "$program.new"
    mv -f "$program.new" "$program"
fi
exec "$QEMU" "$@"
