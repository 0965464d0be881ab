#!/bin/sh
# Runs an aarch64 test with the emulator QEMU; cargo calls it. Tests also start the program by its path, which the
# kernel refuses. So a script takes the program's name and calls the emulator. The next build restores the program.
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
