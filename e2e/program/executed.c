/*
 * executed [OTHER]: a program whose file loses its name, and has the other
 * path OTHER from then on, or none.
 */
#include "state.h"

static const char *other;

/* The inode number of the file that main is mapped of. */
static unsigned long mapped(void)
{
	unsigned long from, to, inode, found = 0;
	char line[8192];
	FILE *f = fopen("/proc/self/maps", "r");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx %*s %*s %*s %lu", &from, &to, &inode) == 3 && from <= (unsigned long)&mapped && (unsigned long)&mapped < to)
			found = inode;
	fclose(f);
	return found;
}

static void look(void)
{
	struct stat is, st;
	works(stat("/proc/self/exe", &is), "/proc/self/exe");
	fact("size", "%ld", is.st_size);
	expect(mapped() == is.st_ino, "its code is of inode %lu, its file is %lu", mapped(), is.st_ino);
	if (other && stat(other, &st) == 0)
		expect(st.st_ino == is.st_ino && st.st_dev == is.st_dev, "%s is another file", other);
}

int main(int argc, char **argv)
{
	begin();
	other = argc > 1 ? argv[1] : NULL;
	serve(look, NULL);
}
